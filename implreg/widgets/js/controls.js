import { html, newId } from "./dom.js";

/** A slider over the entries of `values`, with its label and what it stands at. */
export function slider({ label, values, value, text = String, change }) {
  const id = newId();
  const input = html("input", { type: "range", id, min: 0, max: values.length - 1, step: 1 });
  const shown = html("output", { for: id });
  const set = (wanted) => {
    let nearest = 0;
    values.forEach((one, i) => {
      if (Math.abs(one - wanted) < Math.abs(values[nearest] - wanted)) nearest = i;
    });
    if (Number(input.value) !== nearest) input.value = nearest;
    const words = text(wanted);
    shown.textContent = words;
    input.setAttribute("aria-valuetext", words);
  };
  set(value);
  input.addEventListener("input", () => change(values[Number(input.value)]));
  return { element: html("div", { class: "control" }, html("label", { for: id }, label), input, shown), input, set };
}

/** A choice among `options`, an array of names. */
export function select({ label, options, value, change }) {
  const id = newId();
  const input = html("select", { id }, ...options.map((name, i) => html("option", { value: i }, name)));
  input.value = value;
  input.addEventListener("change", () => change(Number(input.value)));
  const element = html("div", { class: "control" }, html("label", { for: id }, label), input);
  return {
    element,
    set: (wanted) => {
      input.value = wanted;
    },
  };
}

/** A box to tick. */
export function checkbox(label, change) {
  const id = newId();
  const input = html("input", { type: "checkbox", id });
  input.addEventListener("change", () => change(input.checked));
  return {
    element: html("div", { class: "box" }, input, html("label", { for: id }, label)),
    set: (wanted) => {
      input.checked = wanted;
    },
  };
}

/** A button that says what it does. */
export function button(label, press) {
  const element = html("button", { type: "button" }, label);
  element.addEventListener("click", press);
  return element;
}

/** A table of numbers: a row for each name, a column for each head. */
export function numbers(names, heads) {
  const cells = names.map(() => heads.map(() => html("td", {}, "\u2014")));
  const rows = names.map((name, i) => html("tr", {}, html("th", { scope: "row" }, name), ...cells[i]));
  const columns = heads.map((name) => html("th", { scope: "col" }, name));
  const head = html("tr", {}, html("td"), ...columns);
  const table = html("table", {}, html("thead", {}, head), html("tbody", {}, ...rows));
  return {
    element: html("div", { class: "numbers" }, table),
    set: (column, words) => words.forEach((word, i) => { cells[i][column].textContent = word; }),
    name: (column, word) => { columns[column].textContent = word; },
    show: (column, shown) => {
      for (const row of [head, ...rows]) row.children[column + 1].hidden = !shown;
    },
  };
}

/** A sentence that is read out when it has stood still for a moment. */
export function announcer() {
  const element = html("p", { class: "sentence" });
  const spoken = html("p", { class: "spoken", "aria-live": "polite" });
  let timer = 0;
  return {
    elements: [element, spoken],
    say: (words) => {
      if (element.textContent === words) return;
      element.textContent = words;
      clearTimeout(timer);
      timer = setTimeout(() => { spoken.textContent = words; }, 700);
    },
  };
}
