// Corrects the event's span: by dragging across a picture, by setting an end at the playhead, or by typing seconds.

const LEAST_S = 0.05;

export function startSpan(stack, { position, announce }) {
  const fields = document.querySelector("[data-span]");
  if (!fields) return { isDragging: () => false };
  const duration = Number(stack.dataset.duration);
  const [onset, offset] = ["from", "to"].map((name) => fields.querySelector(`[data-span-${name}]`));
  let dragged = false;

  const value = (field, name) => (field.value === "" ? Number(fields.dataset[name]) : Number(field.value));
  const clamp = (seconds) => Math.min(duration, Math.max(0, seconds));

  function draw() {
    const [from, to] = [value(onset, "from"), value(offset, "to")];
    const isSpan = from >= 0 && from < to && to <= duration + 0.01;
    offset.setCustomValidity(isSpan ? "" : "The end comes after the beginning, within the clip.");
    if (!isSpan) return;
    for (const mark of document.querySelectorAll(".stack rect.span, .stack rect.span-bar")) {
      mark.setAttribute("x", `${(100 * from) / duration}%`);
      mark.setAttribute("width", `${(100 * (to - from)) / duration}%`);
    }
  }

  function set(from, to) {
    onset.value = clamp(from).toFixed(2);
    offset.value = clamp(to).toFixed(2);
    draw();
    fields.dispatchEvent(new Event("change", { bubbles: true }));
  }

  for (const field of [onset, offset]) {
    field.addEventListener("input", () => {
      // Both ends travel, or neither.
      if (onset.value === "") onset.value = fields.dataset.from;
      if (offset.value === "") offset.value = fields.dataset.to;
      draw();
    });
  }
  for (const [name, act] of [
    ["begin", () => set(position(), Math.max(value(offset, "to"), position() + LEAST_S))],
    ["end", () => set(Math.min(value(onset, "from"), position() - LEAST_S), position())],
  ]) {
    const button = fields.querySelector(`[data-span-${name}]`);
    button.hidden = false;
    button.addEventListener("click", () => {
      act();
      announce(`The span is ${onset.value} to ${offset.value} seconds.`);
    });
  }
  for (const plot of document.querySelectorAll("[data-plot]")) {
    const at = (event) => {
      const box = plot.getBoundingClientRect();
      return (duration * (event.clientX - box.left)) / box.width;
    };
    plot.addEventListener("pointerdown", (down) => {
      const from = at(down);
      dragged = false;
      plot.setPointerCapture(down.pointerId);
      const move = (event) => {
        const to = at(event);
        if (!dragged && Math.abs(event.clientX - down.clientX) < 6) return;
        dragged = true;
        if (Math.abs(to - from) >= LEAST_S) set(Math.min(from, to), Math.max(from, to));
      };
      plot.addEventListener("pointermove", move);
      plot.addEventListener("pointerup", () => plot.removeEventListener("pointermove", move), { once: true });
    });
  }
  return { isDragging: () => dragged };
}
