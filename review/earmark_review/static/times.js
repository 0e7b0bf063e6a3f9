// Beside the UTC that everyone shares, the time of day where the reader is.

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });

export function tellTimes(root) {
  for (const told of root.querySelectorAll("time[data-moment]")) {
    const at = new Date(told.dateTime);
    if (at.getTimezoneOffset()) told.append(` (${clock.format(at)} here)`);
  }
}

tellTimes(document);
