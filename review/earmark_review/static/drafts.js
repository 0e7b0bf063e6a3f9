// An answer that is being given lives in this browser alone until its verdict is recorded.

const PREFIX = "earmark.draft.";

function slot(user, caseId) {
  return `${PREFIX}${user}.${caseId}`;
}

// What was written and chosen, by the names of the form's fields.
export function readDraft(user, caseId) {
  return parsed(localStorage.getItem(slot(user, caseId)));
}

// Tells of what is written and chosen meanwhile in another tab.
export function onDraft(user, caseId, tell) {
  window.addEventListener("storage", ({ key, newValue }) => {
    if (key === slot(user, caseId) && newValue) tell(parsed(newValue));
  });
}

function parsed(kept) {
  if (!kept) return {};
  try {
    return Object(JSON.parse(kept));
  } catch {
    return { note: kept }; // of a version that kept the note alone
  }
}

export function keepDraft(user, caseId, answer) {
  if (Object.values(answer).some(Boolean)) localStorage.setItem(slot(user, caseId), JSON.stringify(answer));
  else localStorage.removeItem(slot(user, caseId));
}

// Whoever's it is: a decided case needs no draft.
export function dropDraft(caseId) {
  for (const key of Object.keys(localStorage)) {
    if (key.startsWith(PREFIX) && key.endsWith(`.${caseId}`)) localStorage.removeItem(key);
  }
}
