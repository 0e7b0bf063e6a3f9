// The case page under a live lease: player and playhead, heartbeat, draft.

import { bind, takesText } from "/static/keys.js";
import { keepDraft, onDraft, readDraft } from "/static/drafts.js";
import { startLease } from "/static/lease.js";
import { startSheet } from "/static/sheet.js";
import { startSpan } from "/static/span.js";

const root = document.querySelector("[data-case]");
const find = (name) => document.querySelector(`[data-${name}]`);

// --- The player -----------------------------------------------------------------------------------------------------

const audio = find("audio");
const stack = find("stack");
const SEEK_STEP_S = 1;

let span;

function startPlayer() {
  const duration = Number(stack.dataset.duration);
  const playheads = document.querySelectorAll("[data-playhead]");
  const seek = find("seek");
  const volume = find("volume");
  const play = find("play");
  let wanted = 0; // where to begin, before the clip has been fetched

  for (const part of [find("player"), find("seek-panel")]) part.hidden = false;
  audio.muted = true; // until someone presses play
  audio.volume = Number(volume.value);

  function position() {
    return audio.readyState ? audio.currentTime : wanted;
  }

  function draw() {
    const at = Math.min(duration, position());
    for (const line of playheads) {
      for (const end of ["x1", "x2"]) line.setAttribute(end, `${(100 * at) / duration}%`);
    }
    seek.value = at;
    seek.setAttribute("aria-valuetext", `${at.toFixed(1)} of ${duration.toFixed(1)} seconds`);
    find("clock").textContent = `${at.toFixed(1)} / ${duration.toFixed(1)} s`;
    if (!audio.paused) requestAnimationFrame(draw);
  }

  function goTo(seconds) {
    wanted = Math.min(duration, Math.max(0, seconds));
    if (audio.readyState) audio.currentTime = wanted;
    draw();
  }

  play.addEventListener("click", () => {
    if (!audio.paused) return audio.pause();
    audio.muted = false;
    audio.play().catch((error) => {
      if (error.name !== "AbortError") announce("The clip could not be played.");
    });
  });
  audio.addEventListener("loadedmetadata", () => {
    if (wanted) audio.currentTime = wanted;
  });
  for (const name of ["play", "pause", "ended", "seeked"]) {
    audio.addEventListener(name, () => {
      play.classList.toggle("is-playing", !audio.paused);
      find("play-word").textContent = audio.paused ? "Play" : "Pause";
      draw();
    });
  }
  volume.addEventListener("input", () => (audio.volume = Number(volume.value)));
  seek.addEventListener("input", () => goTo(Number(seek.value)));
  span = startSpan(stack, { position, announce });
  for (const plot of document.querySelectorAll("[data-plot]")) {
    plot.addEventListener("click", (event) => {
      if (span.isDragging()) return; // the end of a drag is no click
      const box = plot.getBoundingClientRect();
      goTo((duration * (event.clientX - box.left)) / box.width);
    });
  }
  toggle(find("loop"), (on) => (audio.loop = on));
  toggle(find("slow"), (on) => (audio.playbackRate = audio.defaultPlaybackRate = on ? 0.5 : 1));
  bind("ArrowLeft", "A second back", () => goTo(position() - SEEK_STEP_S));
  bind("ArrowRight", "A second on", () => goTo(position() + SEEK_STEP_S));
  draw();
}

function toggle(button, apply) {
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    apply(on);
  });
}

if (audio) startPlayer();
else if (stack) startSpan(stack, { position: () => 0, announce });

const palette = find("palette");
if (palette) {
  palette.hidden = false;
  toggle(palette, (on) => {
    for (const picture of [find("picture"), find("bands")]) picture?.classList.toggle("is-coloured", on);
    find("picture")?.setAttribute("href", `/cases/${root.dataset.case}/spectrogram.png?palette=${on ? "colour" : "grey"}`);
  });
}

// --- The draft ------------------------------------------------------------------------------------------------------

const form = find("verdict");
const note = document.getElementById("note");
const draftLine = find("draft");
const KEPT = ["note", "verdict", "onset", "offset"];
const TELL_LEFT_CHARS = 200;

function keep() {
  const given = new FormData(form);
  keepDraft(root.dataset.user, root.dataset.case, Object.fromEntries(KEPT.map((name) => [name, given.get(name) ?? ""])));
  const left = note.maxLength - note.value.length;
  if (left <= TELL_LEFT_CHARS) draftLine.textContent = left ? `${left} characters left.` : "The note is full.";
  else draftLine.textContent = note.value ? "Kept in this browser until you record the verdict." : "";
}

function fill(draft) {
  for (const name of KEPT) {
    if (name in draft && form.elements[name]) form.elements[name].value = draft[name];
  }
  if (draft.onset) form.elements.onset?.dispatchEvent(new Event("input")); // draws the span where it was
}

const draft = readDraft(root.dataset.user, root.dataset.case);
fill(draft);
if (Object.values(draft).some(Boolean)) draftLine.textContent = "Your draft is back.";
onDraft(root.dataset.user, root.dataset.case, fill); // the same case in another tab: neither writes over the other
for (const name of ["input", "change"]) form.addEventListener(name, keep);
startSheet(find("decision"), { isBegun: Boolean(draft.note || draft.onset) });
note.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});

// --- The lease ------------------------------------------------------------------------------------------------------

function announce(text) {
  find("announce").textContent = text;
}

function lose({ isSignedOut = false } = {}) {
  if (audio) {
    audio.pause();
    audio.removeAttribute("src");
    audio.load();
  }
  for (const part of document.querySelectorAll("[data-evidence], [data-verdict] fieldset, [data-verdict] button")) part.inert = true;
  find("evidence").classList.add("is-gone");
  find("picture")?.removeAttribute("href");
  find("bands")?.replaceChildren();
  find("left").textContent = "no longer";
  find("lost").hidden = false;
  find("lost").scrollIntoView({ block: "nearest" });
  if (isSignedOut) {
    find("lost-title").textContent = "You were signed out.";
    find("lost-way").textContent = "Sign in and go on";
  }
}

// A second person's answer opens the original, and the end of its time closes it: the page is made anew for either.
const shown = find("original")?.dataset.original ?? (root.dataset.originalOpen ? "open" : "none");

// Not under someone's hands: what they go on typing would be single keys to the new page, which record and skip.
function follow({ original }) {
  const isBusy = (audio && !audio.paused) || takesText(document.activeElement);
  if (original !== shown && !isBusy) location.reload();
}

const lease = startLease(root, { announce, lose, line: find("left"), isBusy: () => Boolean(audio) && !audio.paused, follow, isWaiting: shown === "asked" });

document.addEventListener("signedout", (event) => {
  event.preventDefault();
  lease.signOut();
});
