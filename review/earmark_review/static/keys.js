// Single-key commands. An element that carries data-key is clicked (a text area is focused) when its key is pressed,
// and the help lists exactly these elements, so that the two cannot drift apart.

const STORED = "earmark.keys";
const extras = [];
const dialog = document.getElementById("keys");

export function bind(key, name, action) {
  extras.push({ key, name, action });
}

function isOn() {
  return localStorage.getItem(STORED) !== "off";
}

export function takesText(element) {
  return element.matches("textarea, select, input:not([type=radio], [type=checkbox], [type=range])") || element.isContentEditable;
}

function usable(element) {
  return !element.disabled && !element.closest("[hidden], [inert]");
}

function targets() {
  return [...document.querySelectorAll("[data-key]")].filter(usable);
}

// The focus stays where it was, so that space goes on playing whatever was switched meanwhile.
function perform(element) {
  const folded = element.closest("details:not([open])");
  if (folded && !element.matches("summary")) folded.open = true;
  if (element.matches("textarea, input")) element.focus();
  if (!element.matches("textarea")) element.click();
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || dialog.open) return;
  if (takesText(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (!isOn() && event.key !== "?") return;
  // A focused control keeps its own keys: space presses a button, arrows move among radio buttons.
  const control = event.target.closest("button, a, summary, input");
  if (control && (event.key === " " || event.key === "Enter" || event.key.startsWith("Arrow"))) return;
  const element = targets().find((one) => one.dataset.key === event.key || one.dataset.keyAlso === event.key);
  const extra = extras.find((one) => one.key === event.key);
  if (!element && !extra) return;
  event.preventDefault();
  if (element) perform(element);
  else extra.action();
});

function keyWord(key) {
  return { " ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" }[key] ?? key;
}

function line(keys, name) {
  const term = document.createElement("dt");
  for (const key of keys) {
    const cap = document.createElement("kbd");
    cap.textContent = keyWord(key);
    term.append(cap, " ");
  }
  const meaning = document.createElement("dd");
  meaning.textContent = name;
  return [term, meaning];
}

function showKeys() {
  const list = dialog.querySelector("[data-keys-list]");
  list.replaceChildren();
  const [here, everywhere] = [true, false].map((isHere) => targets().filter((one) => Boolean(one.closest("main")) === isHere));
  const all = [...here.map(({ dataset }) => [[dataset.key, dataset.keyAlso].filter(Boolean), dataset.keyName])];
  for (const { key, name } of extras) all.push([[key], name]);
  if (document.querySelector("main textarea, main input:not([type=hidden])")) all.push([["Esc"], "Leave a field, so that keys count again"]);
  if (document.querySelector("[data-verdict] textarea")) all.push([["Ctrl", "Enter"], "Record the verdict from within the note"]);
  for (const { dataset } of everywhere) all.push([[dataset.key], dataset.keyName]);
  for (const entry of all) list.append(...line(...entry));
  dialog.querySelector("[data-keys-on]").checked = isOn();
  dialog.showModal();
}

for (const button of document.querySelectorAll("[data-show-keys]")) {
  button.hidden = false;
  button.addEventListener("click", showKeys);
}
dialog.querySelector("[data-keys-on]").addEventListener("change", (event) => {
  localStorage.setItem(STORED, event.target.checked ? "on" : "off");
});
