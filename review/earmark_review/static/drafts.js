// A note that is being written lives in this browser alone until its verdict is recorded.

const PREFIX = "earmark.draft.";

function slot(user, caseId) {
  return `${PREFIX}${user}.${caseId}`;
}

export function readDraft(user, caseId) {
  return localStorage.getItem(slot(user, caseId)) ?? "";
}

export function keepDraft(user, caseId, text) {
  if (text) localStorage.setItem(slot(user, caseId), text);
  else localStorage.removeItem(slot(user, caseId));
}

// Whoever's it is: a decided case needs no draft.
export function dropDraft(caseId) {
  for (const key of Object.keys(localStorage)) {
    if (key.startsWith(PREFIX) && key.endsWith(`.${caseId}`)) localStorage.removeItem(key);
  }
}
