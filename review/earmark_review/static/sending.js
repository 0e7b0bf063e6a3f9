// Sends a form so that nothing is lost on the way: the page, and what was written on it, stay until the server has answered.

const PATIENCE_MS = 15_000;
const [SIGNED_OUT, FAILED] = [401, 500];

// What the server did: "done", "signed out", "refused" (its own page says why), or "away".
async function post(form) {
  const body = new URLSearchParams(new FormData(form));
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

// `form.dataset.after` is where an accepted form leads.
export function sendCarefully(form, { tell, signedOut }) {
  let isSending = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isSending) return;
    isSending = true;
    const done = await post(form);
    isSending = false;
    if (done === "done") location.assign(form.dataset.after);
    else if (done === "signed out") signedOut();
    else if (done === "refused") form.submit(); // refused again, on a page that says why
    else tell("The server cannot be reached. What you answered stays here: send it again when it is back.");
  });
}
