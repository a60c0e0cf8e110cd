// Two things that neither HTML nor CSS can do. Everything on a page works without them.

// What scrolls sideways can be reached by keyboard, and only while it does. The observer runs after the layout: to ask
// for sizes before would cost a phone a second.
const wide = new ResizeObserver((entries) => {
  const scrolls = entries.map(({ target }) => target.scrollWidth > target.clientWidth + 1);
  entries.forEach(({ target }, index) => {
    if (scrolls[index]) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  });
});
for (const box of document.querySelectorAll(".bd-article :is(.wide, div.math, pre, .output)")) {
  wide.observe(box);
}

// Paper has no folds.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll(".bd-article details:not([open], .hide)")];
  for (const fold of folded) fold.open = true;
});
addEventListener("afterprint", () => {
  for (const fold of folded) fold.open = false;
});
