// The explorer of hsiutils.plots.explorer: tap a pixel, see every part of its logits, switch bands off. No requests.
(() => {
  "use strict";
  const sum = (list) => list.reduce((a, b) => a + b, 0);
  const range = (n) => Array.from({ length: n }, (_, i) => i);
  const esc = (text) => String(text).replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
  const argmax = (list) => list.reduce((best, v, i) => (v > list[best] ? i : best), 0);

  // Differences along place, zigzag, byte after byte, deflated, in base64: see `packed`.
  async function unpack(text, places) {
    const letters = atob(text.trim()), bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const raw = new Uint8Array(await new Response(stream).arrayBuffer());
    const n = raw.length / 4, out = new Int32Array(n);
    for (let i = 0, last = 0; i < n; i++) {
      const z = (raw[i] | (raw[n + i] << 8) | (raw[2 * n + i] << 16) | (raw[3 * n + i] << 24)) >>> 0;
      last = (i % places ? last : 0) + ((z >>> 1) ^ -(z & 1));
      out[i] = last;
    }
    return out;
  }

  // Readers of the numbers of one input and scene, in the order of `_table`.
  function readers(meta, numbers, places) {
    const C = meta.classes.length, B = meta.wavelengths.length;
    let row = 0;
    return meta.inputs.map((_, input) => meta.scenes.map(() => {
      const blocks = {}, K = meta.channels[input];
      const sizes = { logit: 1, band: B + 1, region: C + 2, channel: K + 1, miss: meta.sets.length, gradcam: 1 };
      for (const [name, size] of Object.entries(sizes)) {
        const from = row;
        blocks[name] = (p, c, part = 0) => numbers[(from + part * C + c) * places + p];
        blocks[name].parts = size;
        row += size * C;
      }
      for (const [name, size] of Object.entries({ spectrum: B, truth: 1, sun: 1 })) {
        const from = row;
        blocks[name] = (p, part = 0) => numbers[(from + part) * places + p];
        row += size;
      }
      return blocks;
    }));
  }

  function start(root) {
    const [told, data] = root.querySelectorAll("script");
    const meta = JSON.parse(told.textContent);
    const { classes, inputs, wavelengths, rows, columns, sets } = meta;
    const places = rows.length * columns.length, order = range(wavelengths.length).sort((a, b) => wavelengths[a] - wavelengths[b]);
    const nm = (band) => Math.round(wavelengths[band]);
    const scale = 10 ** meta.decimals;
    const plain = (v) => (v < 0 ? "−" : "") + (Math.abs(v) / scale).toFixed(meta.decimals);
    const fmt = (v) => (v > 0 ? "+" : "") + plain(v);
    const state = { scene: Math.floor(meta.scenes.length / 2), r: rows.length >> 1, c: columns.length >> 1, chosen: null, off: new Set() };
    const images = meta.scenes.map(({ picture }) => Object.assign(new Image(), { src: picture, onload: () => draw() }));
    let tables = null;

    const ranges = sets.filter((set) => set.length > 1);
    const ends = (set) => { const list = set.map(nm); return `${Math.min(...list)}–${Math.max(...list)}`; };
    const button = (label, bands, text) => `<button type="button" aria-pressed="false" data-bands="${bands}" aria-label="${label}">${text}</button>`;
    root.innerHTML = `
      <div class="hsi-scene"><label>Scene <select>${meta.scenes.map(({ name }, i) => `<option value="${i}">${esc(name)}</option>`).join("")}</select></label>
      <canvas tabindex="0" role="application" aria-label="Scene: tap a pixel, or move with the arrow keys"></canvas>
      <p class="hsi-said" aria-live="polite"></p></div>
      <fieldset><legend>Switch bands off: to the average pixel’s value, everywhere in the scene</legend>
      <p class="hsi-bands">${order.map((b) => button(`band at ${nm(b)} nm off`, b, nm(b))).join("")}</p>
      <p class="hsi-bands">${ranges.map((set) => button(`all bands of ${ends(set)} nm off`, set, `${ends(set)} nm`)).join("")}
      <button type="button" class="hsi-on">all on</button></p></fieldset>
      <div class="hsi-inputs">${inputs.map(({ name }, i) => `<section aria-label="input ${esc(name)}" data-input="${i}">
        <p class="hsi-name">Input ${esc(name)}</p>
        <div class="hsi-maps"><figure><canvas role="img"></canvas><figcaption>linear reading</figcaption></figure>
        <figure><canvas role="img"></canvas><figcaption>network asked again</figcaption></figure></div>
        <p class="hsi-agree"></p><div class="hsi-chart"></div><div class="hsi-logits"></div>
        <details open><summary></summary><div class="hsi-regions"></div></details>
        <details><summary></summary><div class="hsi-channels"></div></details></section>`).join("")}</div>`;
    const scene = root.querySelector(".hsi-scene canvas"), select = root.querySelector("select");
    const sections = [...root.querySelectorAll("section")];
    select.value = state.scene;

    const place = () => state.r * columns.length + state.c;
    const logits = (t, p) => classes.map((_, c) => t.logit(p, c));
    const linear = (t, p, c) => t.logit(p, c) - sum([...state.off].map((b) => t.band(p, c, b)));
    const asked = () => sets.findIndex((set) => set.length === state.off.size && set.every((b) => state.off.has(b)));
    // What the network says with the bands off; undefined if it was not asked about these together.
    function network(t, p, c, set) {
      if (!state.off.size) return t.logit(p, c);
      return set < 0 ? undefined : linear(t, p, c) + t.miss(p, c, set);
    }

    function draw() {
      if (!tables) return;
      drawScene();
      const now = tables.map((list) => list[state.scene]), p = place(), truth = now[0].truth(p), sun = now[0].sun(p);
      const wins = now.map((t) => argmax(logits(t, p)));
      const shown = state.chosen ?? (truth < classes.length ? truth : wins[0]);
      const light = sun < 0 ? "" : sun >= 50 ? ", in the sun" : ", in shadow";
      const label = truth < classes.length ? `labelled ${classes[truth]}` : "not labelled";
      root.querySelector(".hsi-said").textContent = `Row ${rows[state.r]}, column ${columns[state.c]}: ${label}${light}. ` +
        inputs.map(({ name }, i) => `${name} says ${classes[wins[i]]}`).join(", ") + ".";
      for (const one of root.querySelectorAll("[data-bands]")) {
        const bands = one.dataset.bands.split(",").map(Number);
        one.setAttribute("aria-pressed", bands.every((b) => state.off.has(b)));
      }
      sections.forEach((section, i) => drawInput(section, inputs[i], now[i], p, shown));
    }

    function drawScene() {
      const image = images[state.scene], zoom = 4;
      if (!image.naturalWidth) return;
      scene.width = image.naturalWidth * zoom;
      scene.height = image.naturalHeight * zoom;
      const pen = scene.getContext("2d");
      pen.imageSmoothingEnabled = false;
      pen.drawImage(image, 0, 0, scene.width, scene.height);
      const size = zoom * (rows[1] - rows[0] || 2), x = zoom * (columns[state.c] + 0.5) - size / 2, y = zoom * (rows[state.r] + 0.5) - size / 2;
      for (const [colour, width] of [["#000", 8], ["#fff", 4]]) {
        pen.strokeStyle = colour;
        pen.lineWidth = width;
        pen.strokeRect(x, y, size, size);
      }
    }

    function drawMap(canvas, of, what) {
      canvas.width = columns.length;
      canvas.height = rows.length;
      const pen = canvas.getContext("2d");
      range(places).forEach((p) => {
        const c = of(p);
        pen.fillStyle = c === undefined ? "#8888" : meta.colours[c];
        pen.fillRect(p % columns.length, Math.floor(p / columns.length), 1, 1);
      });
      canvas.setAttribute("aria-label", `Classes by ${what} at every pixel of the grid`);
    }

    function drawInput(section, input, t, p, shown) {
      const set = asked(), off = state.off.size > 0, known = !off || set >= 0;
      const winner = (of) => range(places).map((q) => argmax(classes.map((_, c) => of(t, q, c, set))));
      const own = winner((_, q, c) => t.logit(q, c)), read = winner(linear), said = known ? winner(network) : null;
      const [left, right] = section.querySelectorAll(".hsi-maps canvas");
      drawMap(left, (q) => read[q], "the linear reading");
      drawMap(right, (q) => said?.[q], "the network");
      const changed = said ? range(places).filter((q) => said[q] !== own[q]) : [];
      const foretold = changed.filter((q) => read[q] === said[q]).length;
      const missed = said ? range(places).filter((q) => said[q] === own[q] && read[q] !== own[q]).length : 0;
      section.querySelector(".hsi-agree").textContent = !off ? "All bands are on: both maps are what the network says." :
        !said ? "The network was asked about each band alone and about each range, not about this choice." :
        `The network changes its class at ${changed.length} of ${places} pixels. The linear reading foretells ${foretold} of these changes, and ${missed} that do not come.`;
      drawChart(section.querySelector(".hsi-chart"), input, t, p, shown);

      const rest = t.band.parts - 1, bands = (c) => range(rest).map((b) => t.band(p, c, b));
      const line = classes.map((name, c) => {
        const after = network(t, p, c, set);
        const cells = [fmt(sum(bands(c))), fmt(t.band(p, c, rest)), fmt(t.logit(p, c)), fmt(linear(t, p, c)), after === undefined ? "?" : fmt(after)];
        return `<tr${c === shown ? ' class="hsi-shown"' : ""}><th scope="row"><button type="button" aria-pressed="${c === shown}" data-class="${c}"><i style="background:${meta.colours[c]}"></i>${esc(name)}</button></th>${cells.map((v) => `<td>${v}</td>`).join("")}</tr>`;
      });
      const focus = section.contains(document.activeElement) && document.activeElement.dataset.class;
      section.querySelector(".hsi-logits").innerHTML = `<table><caption>Logits at this pixel: bands + average pixel = logit. Without the bands that are off: linear reading, and the network asked again.</caption>
        <thead><tr><th scope="col">class</th><th scope="col">bands</th><th scope="col">average pixel</th><th scope="col">logit</th><th scope="col">linear</th><th scope="col">asked</th></tr></thead><tbody>${line.join("")}</tbody></table>`;
      if (focus) section.querySelector(`[data-class="${focus}"]`).focus();

      const [regions, channels] = section.querySelectorAll("summary");
      regions.textContent = `Whose pixels speak for ${classes[shown]} here`;
      section.querySelector(".hsi-regions").innerHTML = bars([...classes, "unlabelled", "average pixel"], t.region, p, shown, t.logit(p, shown));
      channels.textContent = `Channels before the head, and GradCAM, for ${classes[shown]}`;
      const names = [...range(t.channel.parts - 1).map((k) => `channel ${k}`), "bias"], left0 = t.gradcam(p, shown);
      section.querySelector(".hsi-channels").innerHTML = bars(names, t.channel, p, shown, t.logit(p, shown)) +
        `<p>GradCAM’s map at the same layer, without its ReLU, sums to <b>${fmt(t.logit(p, shown) + left0)}</b> at this pixel and at every other: it misses this logit by <b>${fmt(left0)}</b>.</p>`;
    }

    function bars(names, part, p, c, logit) {
      const values = names.map((_, i) => part(p, c, i)), most = Math.max(1, ...values.map(Math.abs));
      const bar = (v) => `<i class="${v < 0 ? "hsi-against" : "hsi-for"}" style="left:${v < 0 ? 50 + (50 * v) / most : 50}%;width:${(50 * Math.abs(v)) / most}%"></i>`;
      return `<ul>${names.map((name, i) => `<li><span>${esc(name)}</span><span class="hsi-bar">${bar(values[i])}</span><span>${fmt(values[i])}</span></li>`).join("")}
        <li class="hsi-sum"><span>sum: logit ${fmt(logit)}</span><span></span><span>${fmt(sum(values))}</span></li></ul>`;
    }

    // The spectrum above, and below it what each band adds, on one axis of wavelengths.
    function drawChart(box, input, t, p, c) {
      const wide = Math.max(240, box.clientWidth || 320), low = wavelengths[order[0]] - 12, high = wavelengths[order.at(-1)] + 12;
      const x = (value) => 42 + ((wide - 50) * (value - low)) / (high - low);
      const value = (b) => (state.off.has(b) ? input.average[b] : t.spectrum(p, b));
      const top = Math.max(1, ...order.flatMap((b) => [value(b), input.average[b]])), level = (v) => 112 - (90 * v) / top;
      const parts = range(wavelengths.length).map((b) => t.band(p, c, b));
      const most = Math.max(1, ...parts.map(Math.abs)), y = (v) => 202 - (60 * v) / most;
      const path = (of) => order.map((b, i) => `${i ? "L" : "M"}${x(wavelengths[b]).toFixed(1)} ${level(of(b)).toFixed(1)}`).join("");
      const text = (tx, ty, words, anchor = "end") => `<text x="${tx}" y="${ty}" text-anchor="${anchor}">${words}</text>`;
      const tell = (b) => `<title>${nm(b)} nm: ${(value(b) * input.level).toPrecision(3)}, ${fmt(parts[b])} to ${esc(classes[c])}${state.off.has(b) ? ", off" : ""}</title>`;
      const dots = order.map((b) => `<circle cx="${x(wavelengths[b])}" cy="${level(value(b))}" r="3" class="${state.off.has(b) ? "hsi-off" : ""}">${tell(b)}</circle>`);
      const sticks = order.map((b) => `<rect x="${x(wavelengths[b]) - 2}" width="4" y="${Math.min(y(0), y(parts[b]))}" height="${Math.max(0.5, Math.abs(y(0) - y(parts[b])))}" class="${state.off.has(b) ? "hsi-off" : parts[b] < 0 ? "hsi-against" : "hsi-for"}">${tell(b)}</rect>`);
      const ticks = range(20).map((i) => 100 * i).filter((v) => v > low && v < high);
      const largest = order.reduce((a, b) => (Math.abs(parts[b]) > Math.abs(parts[a]) ? b : a), order[0]);
      box.innerHTML = `<svg width="${wide}" height="304" role="img" aria-label="Spectrum of the pixel and of the average pixel, and what each band adds to ${esc(classes[c])}; most: ${fmt(parts[largest])} at ${nm(largest)} nm">
        ${text(0, 10, `${esc(input.unit)}; dashed: average pixel`, "start")}${text(38, 26, (top * input.level).toPrecision(2))}${text(38, 116, "0")}
        <path class="hsi-axis" d="M42 12V112H${wide - 8}M42 142V262M42 202H${wide - 8}"/>
        <path class="hsi-mean" d="${path((b) => input.average[b])}"/><path class="hsi-line" d="${path(value)}"/>${dots.join("")}
        ${text(0, 134, `each band’s part of the logit of ${esc(classes[c])}`, "start")}${text(38, 146, fmt(most))}${text(38, 206, "0")}${text(38, 266, fmt(-most))}${sticks.join("")}
        ${ticks.map((v) => `<path class="hsi-axis" d="M${x(v)} 262v5"/>${text(x(v), 282, v, "middle")}`).join("")}${text(wide / 2, 300, "where the band sees most (nm)", "middle")}</svg>`;
    }

    function tap(event) {
      const box = event.target.getBoundingClientRect();
      const nearest = (list, share, size) => argmax(list.map((v) => -Math.abs((v + 0.5) / size - share)));
      const image = images[state.scene];
      state.r = nearest(rows, (event.clientY - box.top) / box.height, image.naturalHeight);
      state.c = nearest(columns, (event.clientX - box.left) / box.width, image.naturalWidth);
      draw();
    }
    function toggle(bands) {
      const all = bands.every((b) => state.off.has(b));
      bands.forEach((b) => (all ? state.off.delete(b) : state.off.add(b)));
      draw();
    }
    root.addEventListener("click", (event) => {
      const on = event.target.closest("[data-bands], [data-class], .hsi-on, canvas, svg");
      if (!on) return;
      if (on.dataset.bands) toggle(on.dataset.bands.split(",").map(Number));
      else if (on.dataset.class) { state.chosen = Number(on.dataset.class); draw(); }
      else if (on.matches(".hsi-on")) { state.off.clear(); draw(); }
      else if (on.matches("canvas")) tap(event);
      else {
        const box = on.getBoundingClientRect(), low = wavelengths[order[0]] - 12, high = wavelengths[order.at(-1)] + 12;
        const at = low + ((event.clientX - box.left - 42) / (box.width - 50)) * (high - low);
        toggle([order[argmax(order.map((b) => -Math.abs(wavelengths[b] - at)))]]);
      }
    });
    scene.addEventListener("pointermove", (event) => { if (event.buttons === 1 && event.pointerType === "mouse") tap(event); });
    scene.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      state.r = Math.min(rows.length - 1, Math.max(0, state.r + step[0]));
      state.c = Math.min(columns.length - 1, Math.max(0, state.c + step[1]));
      draw();
    });
    select.addEventListener("change", () => { state.scene = Number(select.value); draw(); });
    let width = 0;
    new ResizeObserver(() => { if (root.clientWidth !== width) { width = root.clientWidth; draw(); } }).observe(root);
    unpack(data.textContent, places).then((numbers) => { tables = readers(meta, numbers, places); draw(); })
      .catch(() => { root.textContent = "This browser cannot unpack the explorer's numbers."; });
  }

  const all = () => document.querySelectorAll(".hsi-explorer:not(.hsi-live)").forEach(start);
  document.readyState === "loading" ? addEventListener("DOMContentLoaded", all) : all();
})();
