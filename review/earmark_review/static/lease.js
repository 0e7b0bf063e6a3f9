// Keeps the lease alive while someone works, counts it down, and says when it is over.

const BEATS_PER_LEASE = 5;
const WARN_S = 60;
const ANSWER_S = 4; // how often someone who waits for a second person's answer asks for it

export function startLease(root, { announce, lose, line, isBusy, follow, isWaiting }) {
  const leaseS = Number(root.dataset.leaseS);
  let endsAt = performance.now() + 1000 * Number(root.dataset.secondsLeft);
  let lastBeat = performance.now();
  let lastTouch = performance.now();
  let warned = false;
  let over = false;

  for (const name of ["pointerdown", "keydown", "input"]) {
    document.addEventListener(name, () => (lastTouch = performance.now()), { passive: true });
  }

  function end(how) {
    over = true;
    clearInterval(timer);
    lose(how);
  }

  const signOut = () => end({ isSignedOut: true });

  async function beat() {
    lastBeat = performance.now();
    const body = new URLSearchParams({ csrf: root.dataset.csrf, lease: root.dataset.lease });
    const headers = { Accept: "application/json" };
    try {
      const answer = await fetch(`/cases/${root.dataset.case}/heartbeat`, { method: "POST", body, headers });
      if (over) return;
      if (answer.ok) {
        const told = await answer.json();
        endsAt = performance.now() + 1000 * told.seconds_left;
        warned = false;
        follow(told);
      } else if (answer.status === 401) {
        signOut();
      } else if (answer.status < 500) {
        end();
      }
    } catch {
      announce("The server cannot be reached; your claim runs on until its time is over.");
    }
  }

  function tick() {
    const now = performance.now();
    const leftS = (endsAt - now) / 1000;
    if (leftS <= 0) return end();
    line.textContent = leftS > WARN_S ? `for ${Math.ceil(leftS / 60)} min` : `for ${Math.ceil(leftS)} s`;
    if (leftS <= WARN_S && !warned) {
      warned = true;
      announce("Your claim ends within a minute. Press a key to keep it.");
    }
    const works = isBusy() || now - lastTouch < 1000 * leaseS;
    if (works && !document.hidden && now - lastBeat >= (isWaiting ? 1000 * ANSWER_S : (1000 * leaseS) / BEATS_PER_LEASE)) beat();
  }

  const timer = setInterval(tick, 500);
  tick();
  // A page from the history may show what is long over.
  window.addEventListener("pageshow", (event) => event.persisted && location.reload());
  return { signOut };
}
