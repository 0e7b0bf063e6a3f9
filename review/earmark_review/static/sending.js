// Sends forms so that nothing is lost on the way: the page, and what was written on it, stay until the server has answered.
// A form asks for it by `data-careful`; `data-after` is where an accepted one leads.

const PATIENCE_MS = 15_000;
const [SIGNED_OUT, FAILED] = [401, 500];
const WORDS = "The server cannot be reached. What is on this page stays here: try again when it is back.";
let isSending = false;

// What the server did: "done", "signed out", "refused" (its own page says why), or "away".
async function post(form, submitter) {
  const body = new URLSearchParams(new FormData(form, submitter));
  const headers = { Accept: "application/json" };
  try {
    const answer = await fetch(form.action, { method: "POST", body, headers, redirect: "manual", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (answer.type === "opaqueredirect") return "done";
    if (answer.status === SIGNED_OUT) return "signed out";
    return answer.status < FAILED ? "refused" : "away";
  } catch {
    return "away";
  }
}

// As the browser sends it, to be led wherever the server says.
function submit(form, submitter) {
  if (submitter?.name) form.append(Object.assign(document.createElement("input"), { type: "hidden", name: submitter.name, value: submitter.value }));
  form.submit();
}

function tell(form) {
  const place = form.querySelector("[data-unsent]") ?? document.querySelector("[data-unsent]");
  place.hidden = false;
  place.textContent = ""; // so that the same words are read out again
  requestAnimationFrame(() => (place.textContent = WORDS));
}

document.addEventListener("submit", async (event) => {
  const { target: form, submitter } = event;
  if (!form.matches("[data-careful]")) return;
  event.preventDefault();
  if (isSending) return;
  isSending = true;
  form.setAttribute("aria-busy", "true");
  const done = await post(form, submitter);
  form.removeAttribute("aria-busy");
  isSending = false;
  if (done === "away") tell(form);
  else if (done === "done" && form.dataset.after) location.assign(form.dataset.after);
  else if (done === "signed out" && !form.dispatchEvent(new CustomEvent("signedout", { bubbles: true, cancelable: true }))) return;
  else submit(form, submitter); // refused again, on a page that says why; or, where a claim was made, led to the case
});
