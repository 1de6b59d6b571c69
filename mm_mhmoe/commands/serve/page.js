"use strict";
// Everything that comes from a model or a caption is put in as text, never as HTML.

const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#8a8d94"];
const get = (id) => document.getElementById(id);

function make(name, text, parent) {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

function tell(id, text, bad = false) {
  get(id).textContent = text;
  get(id).classList.toggle("bad", bad);
}

async function ask(address, options) {
  const answer = await fetch(address, options);
  const content = await answer.json().catch(() => ({ error: `the server answered ${answer.status}` }));
  if (!answer.ok) throw new Error(content.error);
  return content;
}

async function busy(form, told, work) {
  const button = form.querySelector("button");
  button.disabled = true;
  tell(told, "one moment");
  try {
    await work();
  } catch (error) {
    tell(told, error instanceof TypeError ? "the server does not answer; is it still running?" : error.message, true);
  } finally {
    button.disabled = false;
  }
}

function list(title, entries, parent) {
  const box = make("div", "", parent);
  make("h3", title, box);
  const items = make("ol", "", box);
  for (const entry of entries) make("small", entry.score.toFixed(2), make("li", entry.text, items));
}

function drawMap(canvas, picture, grid, experts) {
  const cell = Math.max(8, Math.floor(384 / grid)), side = cell * grid, pen = canvas.getContext("2d");
  canvas.width = canvas.height = side;
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, side, side);
  // The model sees the middle square of the picture.
  const square = Math.min(picture.naturalWidth, picture.naturalHeight);
  const left = (picture.naturalWidth - square) / 2, top = (picture.naturalHeight - square) / 2;
  pen.filter = "grayscale(1) contrast(.3) brightness(1.52)";
  pen.drawImage(picture, left, top, square, square, 0, 0, side, side);
  pen.filter = "none";
  pen.font = `600 ${Math.round(cell * 0.42)}px sans-serif`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  experts.forEach((expert, patch) => {
    const x = (patch % grid) * cell, y = Math.floor(patch / grid) * cell;
    pen.globalCompositeOperation = "multiply";
    pen.fillStyle = COLOURS[expert % COLOURS.length];
    pen.fillRect(x, y, cell, cell);
    pen.globalCompositeOperation = "source-over";
    if (cell < 18) return;
    pen.strokeStyle = "rgba(255,255,255,.8)";
    pen.lineWidth = 3;
    pen.strokeText(expert, x + cell / 2, y + cell / 2);
    pen.fillStyle = "#101216";
    pen.fillText(expert, x + cell / 2, y + cell / 2);
  });
}

function showExperts(experts, picture, parent) {
  const box = make("div", "", parent);
  box.className = "wide";
  const title = make("h3", "Expert of every patch, first choice", box);
  const choice = make("select", "", title);
  choice.setAttribute("aria-label", "layer");
  for (const layer of experts.layers) make("option", `layer ${layer.layer}`, choice);
  choice.selectedIndex = experts.layers.length - 1;
  const keys = make("div", "Expert", box);
  keys.className = "keys";
  for (let expert = 0; expert < experts.num_experts; expert++) {
    const key = make("span", "", keys), spot = make("canvas", "", key), pen = spot.getContext("2d");
    pen.fillStyle = COLOURS[expert % COLOURS.length];
    pen.fillRect(0, 0, spot.width, spot.height);
    key.append(String(expert));
  }
  const maps = make("div", "", box);
  maps.className = "maps";
  const draw = () => {
    maps.replaceChildren();
    const heads = experts.layers[choice.selectedIndex].heads;
    heads.forEach((head, number) => {
      const figure = make("figure", "", maps), canvas = make("canvas", "", figure);
      const name = heads.length > 1 ? `head ${number + 1}` : "tokens";
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `experts of ${name}`);
      drawMap(canvas, picture, experts.grid, head);
      make("figcaption", `${name}: ${new Set(head).size} experts`, figure);
    });
  };
  choice.addEventListener("change", draw);
  draw();
}

get("query-form").addEventListener("submit", (event) => {
  event.preventDefault();
  busy(event.target, "find-told", async () => {
    const query = get("query").value;
    const { hits } = await ask(`/api/find?query=${encodeURIComponent(query)}`, { method: "POST" });
    get("hits").replaceChildren();
    for (const hit of hits) {
      const figure = make("figure", "", get("hits")), image = make("img", "", figure);
      image.alt = hit.caption;
      image.src = `/api/picture/${hit.place}`;
      make("figcaption", `${hit.caption} (${hit.score.toFixed(2)})`, figure);
    }
    tell("find-told", `the ${hits.length} pictures that fit “${query}” best, with cosine similarities`);
  });
});

get("picture-form").addEventListener("submit", (event) => {
  event.preventDefault();
  busy(event.target, "look-told", async () => {
    const question = get("question").value;
    const address = `/api/look?question=${encodeURIComponent(question)}`;
    const seen = await ask(address, { method: "POST", body: get("picture").files[0] });
    const box = get("seen"), holder = document.createElement("div"), picture = make("img", "", holder);
    picture.alt = "the picture";
    picture.src = seen.picture;
    await picture.decode();
    box.replaceChildren(holder);
    if (seen.answers) list(question, seen.answers, box);
    if (seen.written !== undefined) {
      const written = make("div", "", box);
      make("h3", "Its caption, as a model writes it", written);
      make("p", seen.written || "(nothing)", written);
    }
    if (seen.captions) list("Captions of the shards that fit best", seen.captions, box);
    if (seen.experts) showExperts(seen.experts, picture, box);
    tell("look-told", "");
  });
});

ask("/api/about").then(
  ({ pictures, models }) => {
    const able = { find: "finds pictures", answer: "answers", write: "writes captions", experts: "shows its experts" };
    const told = Object.entries(models).map(([what, name]) => `${name} ${able[what]}`);
    tell("about", `${told.join("; ")}. ${pictures.toLocaleString("en")} pictures.`);
    get("find").hidden = !models.find;
    get("ask").hidden = !models.answer;
  },
  (error) => tell("about", error.message, true),
);
