// Elements as plain descriptions, and bringing a part of the page in line with them. Text goes into
// text nodes and nowhere else: nothing that a server has sent can become markup.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "path", "line", "rect", "text", "title", "circle"]);

/** A description: `h("td", {class: "number"}, "7")`. Children that are null or false are left out. */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children: children.flat(Infinity).filter((it) => it != null && it !== false) };
}

/** Makes the children of `parent` be as described. Elements with the same `key` stay the same. */
export function patch(parent, children) {
  const keyed = new Map();
  for (const node of parent.childNodes) {
    if (node.key !== undefined) keyed.set(node.key, node);
  }
  let at = parent.firstChild;
  for (const child of [children].flat(Infinity).filter((it) => it != null && it !== false)) {
    const key = child.props?.key;
    let node = key === undefined ? at : keyed.get(key);
    if (node && fits(node, child)) {
      if (node === at) at = at.nextSibling;
      else parent.insertBefore(node, at);
    } else {
      node = make(child, parent);
      parent.insertBefore(node, at);
    }
    update(node, child);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function fits(node, child) {
  if (typeof child !== "object") return node.nodeType === Node.TEXT_NODE;
  return node.nodeType === Node.ELEMENT_NODE && node.localName === child.tag && node.key === child.props.key;
}

function make(child, parent) {
  if (typeof child !== "object") return document.createTextNode("");
  const inSvg = child.tag === "svg" || (parent.namespaceURI === SVG && SVG_TAGS.has(child.tag));
  const node = inSvg ? document.createElementNS(SVG, child.tag) : document.createElement(child.tag);
  node.key = child.props.key;
  node.given = {};
  return node;
}

function update(node, child) {
  if (typeof child !== "object") {
    if (node.data !== String(child)) node.data = String(child);
    return;
  }
  // Children first: the value of a select is one of its options.
  patch(node, child.children);
  for (const name of Object.keys(node.given)) {
    if (!(name in child.props)) set(node, name, null);
  }
  for (const [name, value] of Object.entries(child.props)) {
    if (name !== "key" && node.given[name] !== value) set(node, name, value);
  }
  node.given = child.props;
}

function set(node, name, value) {
  if (name.startsWith("on")) node[name] = value;
  else if (name === "value" || name === "open") node[name] = value ?? "";
  else if (name === "width%") node.style.width = value == null ? "" : `${value}%`;
  else if (value == null || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : value);
}
