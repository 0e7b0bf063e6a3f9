// The lists: j and k go down and up the rows; the queue keeps itself current; a finished case's draft is dropped.

import { bind } from "/static/keys.js";
import { dropDraft } from "/static/drafts.js";
import { tellTimes } from "/static/times.js";

const REFRESH_MS = 20_000;

function rows() {
  return [...document.querySelectorAll("[data-row]")];
}

function step(by) {
  const all = rows();
  const at = all.indexOf(document.activeElement);
  const next = at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by));
  all[next]?.focus();
}

bind("j", "Next row; Enter opens it", () => step(1));
bind("k", "Row above", () => step(-1));

const finished = document.querySelector("[data-finished]");
if (finished) dropDraft(finished.dataset.finished);

const live = document.querySelector("[data-live]");

function show(fresh) {
  const focused = document.activeElement?.getAttribute("href");
  const count = live.querySelector("[data-count]").textContent;
  live.replaceChildren(...fresh.childNodes);
  if (focused) rows().find((row) => row.getAttribute("href") === focused)?.focus();
  const current = live.querySelector("[data-count]").textContent;
  if (current !== count) document.querySelector("[data-announce]").textContent = `The queue has changed: ${current}`;
}

async function refresh() {
  if (document.hidden || document.querySelector("dialog[open]")) return;
  const headers = { Accept: "text/html", "X-Earmark-Background": "1" };
  const answer = await fetch(location.href, { headers }).catch(() => null);
  if (!answer) return; // the server will be back
  if (answer.redirected) return location.reload(); // signed out
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.querySelector("[data-live]");
  if (fresh) tellTimes(fresh);
  if (fresh && fresh.innerHTML !== live.innerHTML) show(fresh);
}

if (live) setInterval(refresh, REFRESH_MS);
