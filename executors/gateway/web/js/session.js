// The token of this tab, in sessionStorage, which ends with the tab.

const KEY = "finetuner-token";

/** Return the token, null before the login. */
export function token() {
  return sessionStorage.getItem(KEY);
}

/** Store a token. */
export function logIn(value) {
  sessionStorage.setItem(KEY, value);
  dispatchEvent(new Event("session"));
}

/** Remove the token. */
export function logOut() {
  sessionStorage.removeItem(KEY);
  dispatchEvent(new Event("session"));
}

/** Remove a token that the server refused, and show the login page, which returns here. */
export function demandLogin() {
  logOut();
  if (location.pathname !== "/") location.assign(`/#/login?next=${encodeURIComponent(location.pathname)}`);
  else if (!location.hash.startsWith("#/login"))
    location.hash = `#/login?next=${encodeURIComponent(location.hash || "#/runs")}`;
}
