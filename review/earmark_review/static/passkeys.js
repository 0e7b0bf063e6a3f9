// Makes and uses passkeys. Without WebAuthn, or without its JSON helpers, the controls stay hidden and the password works as ever.

const able = Boolean(window.PublicKeyCredential?.parseCreationOptionsFromJSON && window.PublicKeyCredential?.parseRequestOptionsFromJSON);

async function post(path, fields) {
  const answer = await fetch(path, { method: "POST", body: new URLSearchParams(fields), headers: { Accept: "application/json" } });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.detail);
  return told;
}

function tell(root, error) {
  const place = root.querySelector("[data-passkey-problem]");
  place.hidden = false;
  place.textContent =
    error.name === "NotAllowedError"
      ? "No passkey was used. Try again, or use the password."
      : error.name === "InvalidStateError"
        ? "This device holds a passkey of your account already."
        : error.message;
}

async function signIn(root) {
  const { csrf, next } = root.dataset;
  const asked = await post("/login/passkey/options", { csrf });
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(asked);
  const credential = await navigator.credentials.get({ publicKey });
  const done = await post("/login/passkey", { csrf, next, credential: JSON.stringify(credential.toJSON()) });
  location.assign(done.to);
}

async function add(form) {
  const { csrf, password, name } = Object.fromEntries(new FormData(form));
  const asked = await post("/account/passkeys/options", { csrf, password });
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(asked);
  const credential = await navigator.credentials.create({ publicKey });
  const done = await post("/account/passkeys", { csrf, name, credential: JSON.stringify(credential.toJSON()) });
  location.assign(done.to);
}

const door = document.querySelector("[data-passkey-door]");
if (able && door) {
  door.hidden = false;
  door.querySelector("button").addEventListener("click", () => signIn(door).catch((error) => tell(door, error)));
}

const form = document.querySelector("form[data-passkey-add]");
if (able && form) {
  form.hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    add(form).catch((error) => tell(form, error));
  });
}
