// What pages do besides the explorer: figures in the theme's colours, tab stops where something scrolls, tables to sort,
// and everything open and light on paper. No requests.
(() => {
  "use strict";
  const all = (css, root = document) => [...root.querySelectorAll(css)];
  const theme = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--pst-color-${name}`).trim();

  // A figure's own colours are those of white paper. In the dark, paper, ink and lines take the page's.
  const PAPER = ["white", "#ffffff"], INK = ["black", "#000000", "#444444"], LINE = ["#e5e5e5"];
  const own = new WeakMap();
  function paint(charts = window.Bokeh?.documents ?? []) {
    const dark = document.documentElement.dataset.theme === "dark";
    const [paper, ink, line] = ["background", "text-base", "border"].map(theme);
    const other = (name, colour) => INK.includes(colour) ? ink : LINE.includes(colour) ? line :
      PAPER.includes(colour) && !name.includes("text") ? paper : colour;
    for (const chart of charts) for (const model of chart.all_models) {
      const names = Object.keys(model.properties).filter((name) => name.endsWith("_color"));
      for (const name of names) {
        const set = model[name], plain = typeof set === "string" ? set : set?.value;
        if (typeof plain !== "string") continue;
        if (!own.has(model)) own.set(model, {});
        const kept = (own.get(model)[name] ??= plain), wanted = dark ? other(name, kept.toLowerCase()) : kept;
        if (wanted !== plain) model[name] = typeof set === "string" ? wanted : { value: wanted };
      }
    }
  }

  // Charts are drawn when they come near the window, and the others, one by one, when there is nothing else to do. Those
  // of pages that are not turned to wait for it. The page says `drawn` when all that are near are.
  const waiting = new Map(), whenIdle = window.requestIdleCallback ?? ((call) => setTimeout(call, 100));
  let begun = 0, painted = 0, looking = null, ready = false;
  const near = new IntersectionObserver((seen) => {
    seen.filter((one) => one.isIntersecting).forEach((one) => draw(one.target));
    settle();
  }, { rootMargin: "100%" });
  window.hsiLater = (chart, make) => {
    waiting.set(chart, make);
    near.observe(chart);
  };
  function draw(chart) {
    near.unobserve(chart);
    const make = waiting.get(chart);
    if (!waiting.delete(chart)) return;
    begun += 1;
    make();
    settle();
  }
  function settle() {
    looking ??= setInterval(() => {
      const charts = window.Bokeh?.documents ?? [];
      for (const chart of charts.slice(painted)) for (const model of chart.all_models)
        model.properties.inner_width?.change.connect(() => requestAnimationFrame(stops)); // redrawn for a new width
      paint(charts.slice(painted));
      painted = charts.length;
      stops();
      if (painted < begun || !ready) return;
      clearInterval(looking);
      looking = null;
      document.documentElement.dataset.drawn = "";
      whenIdle(() => {
        const next = [...waiting.keys()].find((one) => one.offsetParent);
        if (next) draw(next);
      });
    }, 50);
  }

  // What scrolls sideways can be reached by the tab key, and fades where it goes on.
  const WIDE = ["table", "pre", "div.math", "mjx-container[display]", ".pst-scrollable-table-container", ".hsi-figure"]
    .map((css) => `.bd-article ${css}`).join();
  function stops() {
    for (const one of all(WIDE)) {
      const scrolls = one.scrollWidth > one.clientWidth + 4;
      if (scrolls) one.tabIndex = 0;
      else one.removeAttribute("tabindex");
      one.classList.toggle("hsi-goes-on", scrolls && one.scrollLeft + one.clientWidth < one.scrollWidth - 1);
    }
  }

  function sortable(table) {
    all("thead th", table).forEach((head, column) => {
      const button = document.createElement("button");
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending", body = table.tBodies[0];
        all("th", table.tHead).forEach((one) => one.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const cell = (row) => row.cells[column].textContent.trim();
        const order = (a, b) => a === "-" ? 1 : b === "-" ? -1 : // what is missing comes last
          (up ? 1 : -1) * (isNaN(a - b) ? a.localeCompare(b) : a - b);
        body.append(...[...body.rows].sort((a, b) => order(cell(a), cell(b))));
      });
    });
  }

  let before = null;
  function paper() {
    before = { theme: document.documentElement.dataset.theme, folded: all("details:not([open]):is(:not(.hide), :has(table))") };
    document.documentElement.dataset.theme = "light";
    before.folded.forEach((one) => (one.open = true));
    [...waiting.keys()].filter((one) => one.offsetParent).forEach(draw);
    paint();
    const redraw = (view) => [view.repaint?.(), (view.child_views ?? []).forEach(redraw)];
    (window.Bokeh?.index.roots ?? []).forEach(redraw); // now: paper does not wait for the next frame
  }
  function screen() {
    document.documentElement.dataset.theme = before.theme;
    before.folded.forEach((one) => (one.open = false));
  }

  addEventListener("load", () => {
    all("table.hsi-sortable").forEach(sortable);
    all(WIDE).forEach((one) => one.addEventListener("scroll", stops, { passive: true }));
    const sizes = new ResizeObserver(stops); // of the window, and of a chart that comes or goes with a control
    [document.body, ...all(".hsi-plot")].forEach((one) => sizes.observe(one));
    new MutationObserver(() => paint()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    addEventListener("beforeprint", paper);
    addEventListener("afterprint", screen);
    stops();
    all(".search-button__button").forEach((one) => (one.ariaLabel = one.textContent.replace(/\s+/g, " ").trim() || "Search"));
    const icons = setInterval(() => { // drawn late; their buttons say what they are
      if (all(".theme-switch-button i").length) return;
      clearInterval(icons);
      all(".theme-switch-button svg").forEach((one) => {
        one.querySelector("title")?.remove();
        one.removeAttribute("aria-labelledby");
        one.ariaHidden = "true";
      });
      ready = true;
      settle();
    }, 50);
  });
})();
