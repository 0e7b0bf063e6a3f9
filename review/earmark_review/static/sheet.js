// On a narrow screen the verdict's form is a sheet at the bottom, above the pictures: note and span fold away, and the page keeps room for it.

const sheet = window.matchMedia("(max-width: 62rem) and (min-height: 36rem)"); // as in earmark.css

export function startSheet(section, { isBegun }) {
  const more = section.querySelector("[data-more]");

  function fold() {
    more.open = !sheet.matches || isBegun;
  }

  fold();
  sheet.addEventListener("change", fold);
  // A field that has to be mended cannot be shown while it is folded away.
  section.addEventListener("invalid", () => (more.open = true), { capture: true });
  new ResizeObserver(() => {
    document.documentElement.style.setProperty("--sheet", `${section.offsetHeight}px`);
  }).observe(section);
}
