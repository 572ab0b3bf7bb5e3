// The network in the page (hsiutils.paper.live): loaded at the press of a button, from files beside the page alone.
(() => {
  "use strict";
  const range = (n) => Array.from({ length: n }, (_, i) => i);
  const sum = (list) => list.reduce((a, b) => a + b, 0);
  const esc = (text) => String(text).replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
  const clamp = (v, low, high) => Math.min(high, Math.max(low, v));
  const fmt = (v, digits = 2) => (v < 0 ? "−" : "+") + Math.abs(v).toFixed(digits);
  const here = document.currentScript.src, parts = {};

  // What `hsiutils.book.live.scripted` wrote: 15 bits a letter, deflated, byte after byte of all numbers.
  window.hsiLive = (name, width, length, size, text) => { parts[name] = { width, length, size, text }; };
  async function unpack(name) {
    const { width, length, size, text } = parts[name], bytes = new Uint8Array(size);
    for (let i = 0, k = 0, bits = 0, have = 0; k < size; i++) {
      bits = (bits << 15) | (text.charCodeAt(i) - 0x100);
      for (have += 15; have >= 8 && k < size; ) bytes[k++] = (bits >>> (have -= 8)) & 255;
      bits &= (1 << have) - 1;
    }
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const raw = new Uint8Array(await new Response(stream).arrayBuffer()), out = new Uint8Array(raw.length), n = raw.length / width;
    for (let i = 0; i < n; i++) for (let k = 0; k < width; k++) out[i * width + k] = raw[k * n + i];
    delete parts[name];
    return out.subarray(0, length);
  }

  const script = (file) => new Promise((done, failed) => {
    const one = Object.assign(document.createElement("script"), { src: new URL(`live/${file}`, here), onload: done });
    one.onerror = () => failed(new Error(`${file} beside the page cannot be read`));
    document.head.append(one);
  });

  async function load(files) {
    for (const file of files) await script(file);
    const { env, InferenceSession } = window.ort;
    const [glue, wasm, network] = await Promise.all(["glue", "wasm", "network"].map(unpack));
    env.logLevel = "error";
    env.wasm.numThreads = 1;
    env.wasm.wasmBinary = wasm;
    env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([glue], { type: "text/javascript" })) };
    return InferenceSession.create(network, { executionProviders: ["wasm"] });
  }

  function offer(root) {
    if (!root.dataset.files) return;
    const meta = JSON.parse(root.querySelector("script").textContent);
    root.innerHTML = `<p><button type="button">Load the network (${root.dataset.megabytes} MB) and run it here</button></p><p role="status"></p>`;
    const button = root.querySelector("button"), status = root.querySelector("[role=status]");
    button.addEventListener("click", async () => {
      button.disabled = true;
      status.textContent = "Loading …";
      try {
        const session = await load(root.dataset.files.split(" "));
        const [cube, share, truth] = await Promise.all(["cube", "share", "truth"].map(unpack));
        await start(root, meta, session, cube, share, truth);
      } catch (error) {
        status.textContent = `This browser does not run the network: ${error.message ?? error}`;
        button.disabled = false;
      }
    });
  }

  async function start(root, meta, session, steps, shares, truth) {
    const { classes, colours, wavelengths, sun, name } = meta, [B, H, W] = meta.shape, Z = H * W, C = classes.length;
    const order = range(B).sort((a, b) => wavelengths[a] - wavelengths[b]), nm = (b) => Math.round(wavelengths[b]);
    const levels = new Uint16Array(steps.buffer, steps.byteOffset, B * Z);
    const first = { cube: Float32Array.from(levels, (q) => q * meta.step), share: Float32Array.from(shares, (q) => (q === 255 ? NaN : q / 254)) };
    const now = { cube: first.cube.slice(), share: first.share.slice(), off: new Set() };
    const state = { r: H >> 1, c: W >> 1, band: order[B >> 1], brush: 1, shown: null, top: 1 };
    const image = Object.assign(new Image(), { src: meta.picture });
    await image.decode();
    let own = null, said = null, busy = false, again = false;

    const place = () => state.r * W + state.c;
    function winners(logits) {
      const map = new Uint8Array(Z);
      for (let p = 0; p < Z; p++) for (let k = 1; k < C; k++) if (logits[k * Z + p] > logits[map[p] * Z + p]) map[p] = k;
      return map;
    }
    const spectrum = (cube) => range(B).map((b) => cube[b * Z + place()]);
    const rescale = () => { state.top = 1.5 * Math.max(...spectrum(now.cube), ...spectrum(first.cube), 0.01); };
    function* brushed() {
      const reach = state.brush >> 1;
      for (let r = Math.max(0, state.r - reach); r <= Math.min(H - 1, state.r + reach); r++)
        for (let c = Math.max(0, state.c - reach); c <= Math.min(W - 1, state.c + reach); c++) yield r * W + c;
    }
    function paint(b, value) {
      for (const p of brushed()) now.cube[b * Z + p] = value;
      state.band = b;
    }
    // As hsiutils.paper.live.relit: another share of the sun on level ground under the whole sky.
    function relight(to) {
      for (const p of brushed()) {
        if (isNaN(now.share[p])) continue;
        for (let b = 0; b < B; b++) now.cube[b * Z + p] *= (1 + to * sun[b]) / (1 + now.share[p] * sun[b]);
        now.share[p] = to;
      }
    }

    // Forth, and back from the pixel for each of some classes.
    async function ask(rows) {
      const { Tensor } = window.ort, asked = new Float32Array(rows.length * C * Z), p = place();
      rows.forEach((k, i) => (asked[(i * C + k) * Z + p] = 1));
      const feeds = {
        reflectance: new Tensor("float32", now.cube, [1, B, H, W]),
        off: new Tensor("float32", Float32Array.from(range(B), (b) => now.off.has(b)), [1, B, 1, 1]),
        asked: new Tensor("float32", asked, [rows.length, C, H, W]),
      };
      const begun = performance.now(), out = await session.run(feeds), ms = performance.now() - begun;
      const logits = out.logits.data;
      return { rows, all: logits, map: winners(logits), ms, p, logits: range(C).map((k) => logits[k * Z + p]), bands: out.bands.data, start: out.start.data };
    }
    // While something is being drawn, one class is asked about; all when it rests.
    async function changed(drawing = false) {
      again = true;
      state.drawing = drawing;
      if (busy) return;
      for (busy = true; again; ) {
        again = false;
        root.dataset.state = "asking";
        said = root.live = await ask(state.drawing ? [state.shown ?? said.map[place()]] : range(C));
        own ??= said;
        draw();
        await new Promise(requestAnimationFrame); // the page answers in between
      }
      busy = false;
      root.dataset.state = "ready";
    }

    const slider = (label, id, low, high, step) => `<label>${label} <input type="range" data-of="${id}" min="${low}" max="${high}" step="${step}"><output></output></label>`;
    root.innerHTML = `<p class="hsi-name">Input ${esc(name)}, ${esc(meta.scene)}</p>
      <div class="hsi-maps"><figure><canvas class="hsi-tap" tabindex="0" role="application" aria-label="Scene: tap a pixel, or move with the arrow keys"></canvas><figcaption>scene</figcaption></figure>
      <figure><canvas class="hsi-map" role="img"></canvas><figcaption>what the network says now</figcaption></figure></div>
      <p class="hsi-said" aria-live="polite"></p>
      <p class="hsi-controls">${slider("Brush", "brush", 1, 31, 2)}
      <button type="button" class="hsi-again">Back to the scene as it was</button></p>
      <div class="hsi-chart" tabindex="0" role="application" aria-label="Spectrum: draw it, or choose a band by the left and right arrow keys and change it by up and down"></div>
      <p class="hsi-band" aria-live="polite"></p>
      <fieldset><legend>Bands off: at the average pixel’s value, everywhere in the scene</legend>
      <p class="hsi-bands">${order.map((b) => `<button type="button" aria-pressed="false" aria-label="band at ${nm(b)} nm off" data-band="${b}">${nm(b)}</button>`).join("")}</p></fieldset>
      ${sun ? `<fieldset><legend>Light below the brush: level ground under the whole sky</legend>
      <p class="hsi-controls">${slider("Share of the sun", "sun", 0, 100, 5)}</p><p>${esc(meta.trusted)}</p></fieldset>` : ""}
      <div class="hsi-logits"></div><p class="hsi-time"></p>`;
    const find = (css) => root.querySelector(css), scene = find(".hsi-tap"), map = find(".hsi-map"), chart = find(".hsi-chart");

    function draw() {
      const p = said.p, wins = said.map[p], was = own.map[p];
      const asked = state.shown ?? wins, shown = said.rows.includes(asked) ? asked : said.rows[0];
      const share = now.share[p], other = sum(range(Z).map((q) => said.map[q] !== own.map[q]));
      const label = truth[p] < C ? `labelled ${classes[truth[p]]}` : "not labelled";
      const light = isNaN(share) ? "" : `, ${Math.round(100 * share)} % of the sun`;
      find(".hsi-said").textContent = `Row ${state.r}, column ${state.c}: ${label}${light}. The network says ${classes[wins]}` +
        `${wins === was ? "" : `, and ${classes[was]} before`}. ${other} of ${Z} pixels have another class than before.`;
      for (const [id, value, words] of [["brush", state.brush, `${state.brush} × ${state.brush} pixels`], ["sun", 100 * share, isNaN(share) ? "not known here" : `${Math.round(100 * share)} %`]]) {
        const one = find(`[data-of=${id}]`);
        if (!one) continue;
        one.disabled = isNaN(value);
        if (!isNaN(value)) one.value = value;
        one.setAttribute("aria-valuetext", words);
        one.nextElementSibling.value = words;
      }
      for (const one of root.querySelectorAll("[data-band]")) one.setAttribute("aria-pressed", now.off.has(Number(one.dataset.band)));
      drawScene();
      drawMap();
      drawChart(shown);
      drawLogits(shown);
      find(".hsi-time").textContent = `Once through the network and ${said.rows.length} times back, for what each band adds: ${Math.round(said.ms)} ms in this browser.`;
    }
    function drawScene() {
      const zoom = 4, pen = Object.assign(scene, { width: W * zoom, height: H * zoom }).getContext("2d"), reach = state.brush >> 1;
      pen.imageSmoothingEnabled = false;
      pen.drawImage(image, 0, 0, W * zoom, H * zoom);
      for (const [colour, width] of [["#000", 8], ["#fff", 4]]) {
        Object.assign(pen, { strokeStyle: colour, lineWidth: width });
        pen.strokeRect(zoom * (state.c - reach), zoom * (state.r - reach), zoom * state.brush, zoom * state.brush);
      }
    }
    function drawMap() {
      const pen = Object.assign(map, { width: W, height: H }).getContext("2d");
      for (let p = 0; p < Z; p++) {
        pen.fillStyle = colours[said.map[p]];
        pen.fillRect(p % W, Math.floor(p / W), 1, 1);
      }
      map.setAttribute("aria-label", `Classes: ${classes.map((label, k) => `${label} at ${said.map.filter((one) => one === k).length}`).join(", ")} of ${Z} pixels`);
    }
    const parts = (k) => said.bands.subarray(said.rows.indexOf(k) * B, (said.rows.indexOf(k) + 1) * B);
    const low = wavelengths[order[0]] - 12, high = wavelengths[order.at(-1)] + 12;
    function drawChart(k) {
      const wide = Math.max(240, chart.clientWidth || 320), x = (value) => 42 + ((wide - 50) * (value - low)) / (high - low);
      const values = spectrum(now.cube), before = spectrum(first.cube), level = (v) => 112 - (90 * v) / state.top;
      const adds = parts(k), most = Math.max(0.01, ...adds.map(Math.abs)), y = (v) => 202 - (60 * v) / most;
      const path = (list) => order.map((b, i) => `${i ? "L" : "M"}${x(wavelengths[b]).toFixed(1)} ${level(list[b]).toFixed(1)}`).join("");
      const text = (tx, ty, words, anchor = "end") => `<text x="${tx}" y="${ty}" text-anchor="${anchor}">${words}</text>`;
      const tell = (b) => `${nm(b)} nm: reflectance ${values[b].toPrecision(3)}, ${fmt(adds[b], 3)} to ${classes[k]}${now.off.has(b) ? ", off" : ""}`;
      const dots = order.map((b) => `<circle cx="${x(wavelengths[b])}" cy="${level(values[b])}" r="${b === state.band ? 5 : 3}" class="${now.off.has(b) ? "hsi-off" : ""}"><title>${esc(tell(b))}</title></circle>`);
      const sticks = order.map((b) => `<rect x="${x(wavelengths[b]) - 2}" width="4" y="${Math.min(y(0), y(adds[b]))}" height="${Math.max(0.5, Math.abs(y(0) - y(adds[b])))}" class="${now.off.has(b) ? "hsi-off" : adds[b] < 0 ? "hsi-against" : "hsi-for"}"><title>${esc(tell(b))}</title></rect>`);
      chart.innerHTML = `<svg width="${wide}" height="304" role="img" aria-label="Spectrum of the pixel, and what each band of the scene adds to its logit of ${esc(classes[k])}">
        ${text(0, 10, "reflectance, to draw on; dashed: as it was", "start")}${text(38, 26, state.top.toPrecision(2))}${text(38, 116, "0")}
        <path class="hsi-axis" d="M42 12V112H${wide - 8}M42 142V262M42 202H${wide - 8}"/><path class="hsi-mean" d="${path(before)}"/><path class="hsi-line" d="${path(values)}"/>${dots.join("")}
        ${text(0, 134, `each band’s part of the logit of ${esc(classes[k])}`, "start")}${text(38, 146, most.toFixed(2))}${text(38, 206, "0")}${text(38, 266, `−${most.toFixed(2)}`)}${sticks.join("")}
        ${range(20).map((i) => 100 * i).filter((v) => v > low && v < high).map((v) => `<path class="hsi-axis" d="M${x(v)} 262v5"/>${text(x(v), 282, v, "middle")}`).join("")}${text(wide / 2, 300, "where the band sees most (nm)", "middle")}</svg>`;
      find(".hsi-band").textContent = `${tell(state.band)}.`;
    }
    function drawLogits(shown) {
      const focus = document.activeElement?.dataset.class, p = said.p;
      const line = classes.map((label, k) => {
        const bands = sum([...parts(k)]), start = said.start[said.rows.indexOf(k)];
        const cells = [...(start === undefined ? ["…", "…", "…"] : [bands, start, bands + start].map((v) => fmt(v))), fmt(said.logits[k]), fmt(own.all[k * Z + p])];
        return `<tr${k === shown ? ' class="hsi-shown"' : ""}><th scope="row"><button type="button" aria-pressed="${k === shown}" data-class="${k}"><i style="background:${colours[k]}"></i>${esc(label)}</button></th>${cells.map((v) => `<td>${v}</td>`).join("")}</tr>`;
      });
      find(".hsi-logits").innerHTML = `<table><caption>Logits at this pixel: what all bands add, and what is left for an image of average pixels, sum to the logit. Last, the logit before anything was changed.</caption>
        <thead><tr>${["class", "bands", "average", "sum", "logit", "before"].map((head) => `<th scope="col">${head}</th>`).join("")}</tr></thead><tbody>${line.join("")}</tbody></table>`;
      if (focus) find(`[data-class="${focus}"]`).focus();
    }

    function move(r, c) {
      [state.r, state.c] = [clamp(r, 0, H - 1), clamp(c, 0, W - 1)];
      rescale();
      changed();
    }
    function tap(event) {
      const box = scene.getBoundingClientRect();
      move(Math.floor((H * (event.clientY - box.top)) / box.height), Math.floor((W * (event.clientX - box.left)) / box.width));
    }
    function brush(event) {
      const box = chart.getBoundingClientRect(), at = low + ((event.clientX - box.left - 42) / (box.width - 50)) * (high - low);
      const b = order.reduce((best, one) => (Math.abs(wavelengths[one] - at) < Math.abs(wavelengths[best] - at) ? one : best));
      if (event.clientY - box.top > 124) state.band = b;
      else paint(b, state.top * clamp((112 - (event.clientY - box.top)) / 90, 0, 1.1));
      changed(true);
    }
    scene.addEventListener("click", tap);
    scene.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      move(state.r + step[0], state.c + step[1]);
    });
    chart.addEventListener("pointerdown", (event) => { chart.setPointerCapture(event.pointerId); brush(event); });
    chart.addEventListener("pointermove", (event) => { if (event.buttons === 1) brush(event); });
    for (const end of ["pointerup", "pointercancel"]) chart.addEventListener(end, () => { rescale(); changed(); });
    chart.addEventListener("keydown", (event) => {
      const along = { ArrowLeft: -1, ArrowRight: 1 }[event.key], up = { ArrowUp: 1, ArrowDown: -1 }[event.key];
      if (!along && !up) return;
      event.preventDefault();
      if (along) state.band = order[clamp(order.indexOf(state.band) + along, 0, B - 1)];
      else paint(state.band, Math.max(0, now.cube[state.band * Z + place()] + (up * state.top) / 50));
      if (now.cube[state.band * Z + place()] > state.top) rescale();
      changed();
    });
    root.addEventListener("input", ({ target }) => {
      if (target.dataset.of === "brush") state.brush = Number(target.value);
      if (target.dataset.of === "sun") relight(target.value / 100);
      changed(true);
    });
    root.addEventListener("change", () => changed());
    root.addEventListener("click", ({ target }) => {
      const on = target.closest("[data-band], [data-class], .hsi-again");
      if (!on) return;
      const b = Number(on.dataset.band);
      if (on.dataset.band) now.off.has(b) ? now.off.delete(b) : now.off.add(b);
      else if (on.dataset.class) state.shown = Number(on.dataset.class);
      else {
        now.cube.set(first.cube);
        now.share.set(first.share);
        now.off.clear();
        rescale();
      }
      changed();
    });
    let width = root.clientWidth;
    new ResizeObserver(() => { if (root.clientWidth !== width) { width = root.clientWidth; draw(); } }).observe(root);
    rescale();
    await changed();
    scene.focus();
  }

  const all = () => document.querySelectorAll(".hsi-live").forEach(offer);
  document.readyState === "loading" ? addEventListener("DOMContentLoaded", all) : all();
})();
