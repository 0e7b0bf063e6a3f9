// The lists: j and k go down and up the rows; a finished case's draft is dropped.

import { bind } from "/static/keys.js";
import { dropDraft } from "/static/drafts.js";

const rows = [...document.querySelectorAll("[data-row]")];

function step(by) {
  const at = rows.indexOf(document.activeElement);
  const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by));
  rows[next]?.focus();
}

if (rows.length) {
  bind("j", "Next row; Enter opens it", () => step(1));
  bind("k", "Row above", () => step(-1));
}

const finished = document.querySelector("[data-finished]");
if (finished) dropDraft(finished.dataset.finished);
