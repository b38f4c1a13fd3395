// Making elements. Whatever is stored becomes text or an attribute's value, never markup.

/**
 * Make an element: h("p.note", {id: "x"}, "text", another).
 *
 * `on...` properties are listeners; true is an attribute without value; false, null and undefined are left out, as
 * children too.
 */
export function h(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  return fill(document.createElement(name), classes, properties, children);
}

/** The same for SVG. */
export function svg(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), classes, properties, children);
}

function fill(element, classes, properties, children) {
  if (classes.length) element.classList.add(...classes);
  for (const [key, value] of Object.entries(properties)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...shown(children));
  return element;
}

function shown(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Replace what is in `element`; the focus stays where its link or id is found again. */
export function swap(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  const mark =
    focused &&
    (focused.id
      ? `#${CSS.escape(focused.id)}`
      : focused.getAttribute("href") && `[href="${CSS.escape(focused.getAttribute("href"))}"]`);
  element.replaceChildren(...shown(children));
  if (mark) element.querySelector(mark)?.focus({ preventScroll: true });
}

/** Say something to screen readers, without moving the focus. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

/** The address of a page: path("runs", experiment, name) with every part quoted. */
export function path(...parts) {
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}
