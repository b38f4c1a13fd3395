// The token of this tab. It lives in sessionStorage: closing the tab forgets it.

const KEY = "finetuner-token";

/** The token, null where nobody has logged in. */
export function token() {
  return sessionStorage.getItem(KEY);
}

/** Remember a token. */
export function logIn(value) {
  sessionStorage.setItem(KEY, value);
  dispatchEvent(new Event("session"));
}

/** Forget it. */
export function logOut() {
  sessionStorage.removeItem(KEY);
  dispatchEvent(new Event("session"));
}

/** Forget a token that the server refused, and show the login, which leads back here. */
export function demandLogin() {
  logOut();
  if (location.pathname !== "/") location.assign(`/#/login?next=${encodeURIComponent(location.pathname)}`);
  else if (!location.hash.startsWith("#/login"))
    location.hash = `#/login?next=${encodeURIComponent(location.hash || "#/runs")}`;
}
