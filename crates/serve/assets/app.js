"use strict";

// The page of `firstsight serve`: photos by class, a training, predictions. All it knows it asks of the service that sent it.

const $ = (id) => document.getElementById(id);
/** Thumbnails that a class shows at first. */
const SHOWN = 60;
/** Photos that are sent at the same time. */
const AT_ONCE = 4;
/** Refused photos that are named. */
const NAMED = 10;
/** The longer side of camera frames that are sent, in pixels. */
const FRAME = 640;
/** Bars at most. */
const BARS = 10;
const HINT = $("hint").textContent;

/** What the page shows: the service's state, its classes, and what is asked of the camera. */
const page = {
  state: { teaches: false, training: { state: "idle" }, run: null },
  classes: [],
  /** Classes all of whose photos are shown. */
  unfolded: new Set(),
  /** The class that the camera or the clipboard gives photos to. */
  active: null,
  stream: null,
  isLive: false,
};

/** The token of a service that needs one: from the address's `#token=…`, then kept for this tab. */
const token = (() => {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token");
})();

// Asking the service.

async function ask(method, path, body) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body !== undefined && !(body instanceof Blob)) {
    body = JSON.stringify(body);
    headers["Content-Type"] = "application/json";
  } else if (body) {
    headers["Content-Type"] = "application/octet-stream";
  }
  let answer;
  try {
    answer = await fetch(path, { method, headers, body });
  } catch {
    throw new Error("The service does not answer. Is firstsight still running?");
  }
  if (answer.ok) return answer;
  const refusal = await answer.json().catch(() => null);
  if (answer.status === 401) throw new Error("This service needs its token: open it as http://HOST:PORT/#token=TOKEN");
  throw new Error(refusal ? `${refusal.error}: expected ${refusal.expected}, found ${refusal.found}` : `Error ${answer.status}`);
}

const askJson = async (...request) => (await ask(...request)).json();

const classPath = (name) => `/api/classes/${encodeURIComponent(name)}`;
const photoPath = (name, photo) => `${classPath(name)}/photos/${encodeURIComponent(photo)}`;

function say(text, isWrong = false) {
  $("said").textContent = text;
  $("said").classList.toggle("wrong", isWrong);
}

/** Does something that may be refused, and says so. */
async function tried(work) {
  try {
    return await work();
  } catch (error) {
    say(error.message, true);
  }
}

/** An image by its path, with the token if there is one. */
async function setImage(image, path) {
  if (!token) {
    image.src = path;
    return;
  }
  await tried(async () => {
    image.src = URL.createObjectURL(await (await ask("GET", path)).blob());
    image.onload = () => URL.revokeObjectURL(image.src);
  });
}

// Classes and photos.

async function refreshClasses() {
  page.classes = await askJson("GET", "/api/classes");
  showClasses();
}

/** What the last training says of a photo: the class that it looks like. */
function suspicions() {
  const found = new Map();
  for (const suspect of page.state.run?.suspicious ?? []) found.set(`${suspect.class}/${suspect.photo}`, suspect);
  return found;
}

const colorOf = (label) => {
  const labels = page.state.teaches ? page.classes.map((known) => known.name) : page.state.run?.labels ?? [];
  return `var(--c${Math.max(0, labels.indexOf(label)) % 8})`;
};

function showClasses() {
  const suspects = suspicions();
  const known = new Map([...$("classes").children].map((card) => [card.dataset.name, card]));
  const cards = page.classes.map((shown) => {
    const card = known.get(shown.name) ?? newCard(shown.name);
    showPhotos(card, shown, suspects);
    return card;
  });
  // What has not moved stays, so that the focus does, too.
  for (const [name, card] of known) if (!page.classes.some((shown) => shown.name === name)) card.remove();
  cards.forEach((card, i) => {
    if ($("classes").children[i] !== card) $("classes").insertBefore(card, $("classes").children[i] ?? null);
  });
  const ready = page.classes.length >= 2 && page.classes.every((shown) => shown.photos.length >= 2);
  $("start").disabled = !ready || page.state.training.state === "running";
  $("hint").hidden = ready;
  const few = page.classes.filter((shown) => shown.photos.length < 2).map((shown) => shown.name);
  $("hint").textContent =
    page.classes.length >= 2 && few.length > 0 ? `Some ten photos each. Fewer than two: ${few.join(", ")}.` : HINT;
}

function newCard(name) {
  const card = $("class-template").content.cloneNode(true).querySelector("article");
  const part = (selector) => card.querySelector(selector);
  card.dataset.name = name;
  card.setAttribute("aria-label", `Class ${name}`);
  card.tabIndex = -1;
  part("h3").textContent = name;
  for (const [button, what] of [["rename", "Rename"], ["remove", "Remove"], ["camera", "Camera for"]]) {
    part(`.${button}`).setAttribute("aria-label", `${what} class ${name}`);
  }
  part(".files").setAttribute("aria-label", `Photos for class ${name}`);
  part(".folder").setAttribute("aria-label", `A folder of photos for class ${name}`);
  part(".renaming input").setAttribute("aria-label", `New name of class ${name}`);
  card.addEventListener("focusin", () => (page.active = name));
  card.addEventListener("pointerdown", () => (page.active = name));
  for (const selector of [".files", ".folder"]) {
    part(selector).addEventListener("change", async (event) => {
      await addPhotos(name, [...event.target.files]);
      event.target.value = "";
    });
  }
  part(".remove").addEventListener("click", () => removeClass(name));
  part(".rename").addEventListener("click", () => {
    part(".renaming").hidden = false;
    part(".renaming input").value = name;
    part(".renaming input").select();
  });
  part(".cancel").addEventListener("click", () => {
    part(".renaming").hidden = true;
    part(".rename").focus();
  });
  part(".renaming").addEventListener("submit", (event) => {
    event.preventDefault();
    renameClass(name, part(".renaming input").value);
  });
  part(".camera").addEventListener("click", () => toggleViewfinder(card));
  part(".one").addEventListener("click", () => shoot(card, 1));
  part(".burst").addEventListener("click", () => shoot(card, 10));
  part(".more").addEventListener("click", () => {
    page.unfolded.add(name);
    showClasses();
  });
  takeDrops(card, (files) => addPhotos(name, files));
  return card;
}

/** The photos of a class, suspicious ones first. */
function showPhotos(card, shown, suspects) {
  const n = shown.photos.length;
  card.style.setProperty("--color", colorOf(shown.name));
  card.querySelector(".count").textContent = n === 1 ? "1 photo" : `${n} photos`;
  const suspect = (photo) => suspects.get(`${shown.name}/${photo}`);
  const sorted = [...shown.photos].sort((a, b) => Boolean(suspect(b)) - Boolean(suspect(a)));
  const wanted = page.unfolded.has(shown.name) ? sorted : sorted.slice(0, SHOWN);
  const list = card.querySelector(".photos");
  const known = new Map([...list.children].map((item) => [item.dataset.photo, item]));
  const items = wanted.map((photo) => {
    const item = known.get(photo) ?? newPhoto(shown.name, photo);
    const looks = suspect(photo);
    item.classList.toggle("suspect", Boolean(looks));
    item.querySelector(".looks").hidden = !looks;
    item.querySelector(".looks").textContent = looks ? `${looks.taken_for}?` : "";
    return item;
  });
  list.replaceChildren(...items);
  card.querySelector(".more").hidden = wanted.length === n;
  card.querySelector(".more").textContent = `Show all ${n}`;
}

function newPhoto(name, photo) {
  const item = document.createElement("li");
  item.dataset.photo = photo;
  const image = new Image();
  image.alt = photo;
  image.loading = "lazy";
  setImage(image, photoPath(name, photo));
  const looks = document.createElement("span");
  looks.className = "looks";
  const remove = document.createElement("button");
  remove.textContent = "×";
  remove.setAttribute("aria-label", `Remove photo ${photo}`);
  remove.addEventListener("click", () => removePhoto(name, photo, item));
  item.append(image, looks, remove);
  return item;
}

async function addClass(event) {
  event.preventDefault();
  await tried(async () => {
    const { name } = await askJson("POST", "/api/classes", { name: $("class-name").value });
    $("class-name").value = "";
    page.active = name;
    await refreshClasses();
    say(`Class ${name} is there.`);
  });
}

async function renameClass(from, to) {
  await tried(async () => {
    const { name } = await askJson("PATCH", classPath(from), { name: to });
    await refreshClasses();
    say(`${from} is ${name} now.`);
    document.querySelector(`[data-name="${CSS.escape(name)}"]`)?.focus();
  });
}

async function removeClass(name) {
  const n = page.classes.find((shown) => shown.name === name)?.photos.length ?? 0;
  if (n > 0 && !confirm(`Remove class ${name} with ${n} photos? They are moved to the folder “removed”.`)) return;
  await tried(async () => {
    await ask("DELETE", classPath(name));
    await refreshClasses();
    say(`Class ${name} is removed.`);
    $("class-name").focus();
  });
}

async function removePhoto(name, photo, item) {
  await tried(async () => {
    await ask("DELETE", photoPath(name, photo));
    const next = item.nextElementSibling ?? item.previousElementSibling;
    const neighbor = next?.dataset.photo;
    await refreshClasses();
    const card = document.querySelector(`[data-name="${CSS.escape(name)}"]`);
    const same = neighbor && card.querySelector(`[data-photo="${CSS.escape(neighbor)}"] button`);
    (same ?? card.querySelector(".files")).focus();
  });
}

/** Sends photos to a class, some at a time. */
async function addPhotos(name, files) {
  const photos = files.filter((file) => !file.name.startsWith("."));
  const waiting = [...photos];
  const refused = [];
  let done = 0;
  const send = async () => {
    for (let file = waiting.shift(); file; file = waiting.shift()) {
      try {
        await ask("POST", `${classPath(name)}/photos?name=${encodeURIComponent(file.name)}`, file);
      } catch (error) {
        refused.push(`${file.name}: ${error.message}`);
      }
      done += 1;
      say(`${done} of ${photos.length} photos for ${name}`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, send));
  await tried(refreshClasses);
  if (refused.length > 0) {
    const more = refused.length > NAMED ? `\nand ${refused.length - NAMED} more` : "";
    const named = refused.slice(0, NAMED).join("\n") + more;
    say(`${refused.length} of ${photos.length} were not taken:\n${named}`, true);
  } else say(`${photos.length === 1 ? "1 photo" : `${photos.length} photos`} for ${name}.`);
}

// What is dropped and pasted.

/** Lets files and folders be dropped onto an element. */
function takeDrops(element, take) {
  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", async (event) => {
    event.preventDefault();
    event.stopPropagation();
    element.classList.remove("over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const files = entries.length > 0 ? (await Promise.all(entries.map(filesOf))).flat() : [...event.dataTransfer.files];
    if (files.length > 0) take(files);
  });
}

/** The files of a dropped file or folder, at any depth. */
async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const files = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return files;
    files.push(...(await Promise.all(some.map(filesOf))).flat());
  }
}

/** Pasted images go to the class that was used last, or else are tried. */
function paste(event) {
  const files = [...event.clipboardData.files].filter((file) => file.type.startsWith("image/"));
  if (files.length === 0) return;
  event.preventDefault();
  const isKnown = page.classes.some((shown) => shown.name === page.active);
  if (isKnown) addPhotos(page.active, files);
  else if (page.state.run) tryPhoto(files[0]);
}

// The camera.

async function camera() {
  if (!navigator.mediaDevices) throw new Error("Browsers give a camera to pages of localhost or of https alone");
  page.stream ??= await navigator.mediaDevices.getUserMedia({ video: { width: 1280, height: 720 } }).catch((error) => {
    throw new Error(`The camera cannot be used: ${error.message}`);
  });
  return page.stream;
}

/** Ends the camera where nothing shows it. */
function releaseCamera() {
  const isShown = page.isLive || document.querySelector(".viewfinder:not([hidden])");
  if (isShown || !page.stream) return;
  page.stream.getTracks().forEach((track) => track.stop());
  page.stream = null;
}

async function toggleViewfinder(card) {
  const finder = card.querySelector(".viewfinder");
  if (!finder.hidden) {
    finder.hidden = true;
    releaseCamera();
    return;
  }
  await tried(async () => {
    const stream = await camera();
    document.querySelectorAll(".viewfinder").forEach((other) => (other.hidden = true));
    finder.hidden = false;
    const video = finder.querySelector("video");
    video.srcObject = stream;
    await video.play();
    finder.querySelector(".burst").focus();
  });
}

/** Takes photos of the viewfinder, a quarter of a second apart. */
async function shoot(card, n) {
  const video = card.querySelector("video");
  const name = card.dataset.name;
  const files = [];
  for (let i = 0; i < n; i += 1) {
    if (i > 0) await new Promise((resolve) => setTimeout(resolve, 250));
    const blob = await jpeg(drawn(document.createElement("canvas"), video, video.videoWidth, video.videoHeight));
    files.push(new File([blob], `camera-${Date.now()}.jpg`));
    say(`${i + 1} of ${n} taken`);
  }
  await addPhotos(name, files);
}

/** An image or video on a canvas, its longer side at most FRAME pixels. */
function drawn(canvas, source, width, height) {
  const scale = Math.min(1, FRAME / Math.max(width, height));
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.getContext("2d").drawImage(source, 0, 0, canvas.width, canvas.height);
  return canvas;
}

const jpeg = (canvas) => new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Training.

async function train() {
  await tried(async () => {
    await ask("POST", "/api/train", { preset: $("deeper").checked ? "standard" : "quick" });
    await followTraining();
  });
}

/** Asks for the state until no training runs. */
async function followTraining() {
  for (;;) {
    try {
      page.state = await askJson("GET", "/api/state");
    } catch (error) {
      // The training goes on without the page.
      say(error.message, true);
      await pause(2000);
      continue;
    }
    showTraining();
    if (page.state.training.state !== "running") break;
    await pause(300);
  }
  const { training } = page.state;
  if (training.state === "failed") say(`The training failed: ${training.reason}`, true);
  if (training.state === "done") say(`Trained in ${training.seconds.toFixed(1)} seconds.`);
  showRun();
  showClasses();
}

function showTraining() {
  const { training } = page.state;
  const runs = training.state === "running";
  $("progress").hidden = !runs;
  $("stop").hidden = !runs;
  $("start").disabled = runs;
  if (!runs) return;
  if (training.total > 0) $("bar").value = training.done / training.total;
  else $("bar").removeAttribute("value");
  $("task").textContent = training.total > 0 ? `${training.task}: ${training.done} of ${training.total}` : training.task;
}

function showRun() {
  const { run, teaches } = page.state;
  const hasRun = Boolean(run);
  for (const id of ["live", "photo", "evidence"]) $(id).disabled = !hasRun;
  $("invitation").textContent = hasRun ? "Drop a photo here" : "Nothing to try yet: train first";
  $("result").hidden = !(teaches && hasRun);
  if (!teaches || !hasRun) return;
  const percent = (share) => `${(100 * share).toFixed(0)} %`;
  if (run.accuracy === null) {
    $("accuracy").textContent = "";
  } else {
    const [low, high] = run.accuracy_interval;
    const right = Math.round(run.accuracy * run.n);
    $("accuracy").textContent =
      `${right} of ${run.n} photos that it was not trained on are right: ${percent(run.accuracy)}, and of many more ` +
      `probably ${percent(low)} to ${percent(high)}.`;
  }
  showConfusion(run);
  const n = run.suspicious.length;
  $("suspects").textContent =
    n === 0 ? "" : `${n === 1 ? "One photo looks" : `${n} photos look`} like another class; marked, and first in its class.`;
  $("run-name").textContent = run.name;
}

function showConfusion({ labels, confusion }) {
  for (const id of ["confusion", "confusion-title"]) $(id).hidden = !confusion;
  if (!confusion) return;
  const cell = (tag, text, scope) => {
    const made = document.createElement(tag);
    made.textContent = text;
    if (scope) made.scope = scope;
    return made;
  };
  const row = (...cells) => {
    const made = document.createElement("tr");
    made.append(...cells);
    return made;
  };
  const heads = labels.map((label) => cell("th", label, "col"));
  $("confusion").tHead.replaceChildren(row(cell("td", ""), ...heads));
  const rows = confusion.map((counts, truth) => {
    const cells = counts.map((count, said) => {
      const made = cell("td", count);
      if (count > 0) made.className = truth === said ? "right" : "wrong";
      return made;
    });
    return row(cell("th", labels[truth], "row"), ...cells);
  });
  $("confusion").tBodies[0].replaceChildren(...rows);
}

/** Saves an answer as a file. */
async function download(path, name) {
  await tried(async () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await (await ask("GET", path)).blob());
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  });
}

// Trying.

/** The photo that is shown, if it is one. */
let shownPhoto = null;
/** Photos and frames that were asked about. */
let asked = 0;

/** Counts a photo or frame. The answer tells whether it is still the last one: what is said of earlier ones is not shown. */
function question() {
  const own = ++asked;
  return () => own === asked;
}

async function tryPhoto(file) {
  await stopLive();
  const isLast = question();
  shownPhoto = file;
  showAnswer({});
  await tried(async () => {
    const bitmap = await createImageBitmap(file).catch(() => null);
    if (!isLast()) return;
    $("picture").hidden = !bitmap;
    if (bitmap) drawn($("picture"), bitmap, bitmap.width, bitmap.height);
    $("stage").classList.toggle("empty", !bitmap);
    await predict(file, $("picture"), isLast);
  });
}

/** Shows what the network says of an image, and where on the canvas or video it looks. */
async function predict(blob, shown, isLast) {
  const [row] = await askJson("POST", `/predict?top=${BARS}`, blob);
  if (!isLast()) return;
  showAnswer(row);
  const best = row.predictions?.[0];
  if ($("evidence").checked && best) {
    const evidence = await askJson("POST", `/api/evidence?class=${best.index}`, blob);
    if (isLast()) showHeat(evidence, shown);
  } else {
    $("heat").width = 0;
  }
}

function showAnswer(row) {
  const guesses = row.predictions ?? (row.labels ?? []).map(({ label, probability }) => ({ label, probability }));
  const named = row.rejected ? `none of these: ${row.reason}` : guesses[0]?.label ?? "";
  const verdict = row.value === undefined ? named : `${row.label}: ${row.value.toPrecision(4)}`;
  // Said once by screen readers, not with every frame.
  if ($("verdict").textContent !== verdict) $("verdict").textContent = verdict;
  $("bars").classList.toggle("rejected", Boolean(row.rejected));
  // In a fixed order, bars keep their places while the camera moves.
  const places = page.state.run?.labels ?? [];
  const sorted = places.length <= BARS ? [...guesses].sort((a, b) => places.indexOf(a.label) - places.indexOf(b.label)) : guesses;
  while ($("bars").children.length > sorted.length) $("bars").lastChild.remove();
  sorted.forEach(({ label, probability }, i) => {
    const bar = $("bars").children[i] ?? $("bars").appendChild(newBar());
    const percent = `${(100 * probability).toFixed(probability > 0.0995 && probability < 0.9995 ? 0 : 1)} %`;
    bar.style.setProperty("--color", colorOf(label));
    bar.querySelector(".name").textContent = label;
    bar.querySelector(".name").title = label;
    bar.querySelector(".percent").textContent = percent;
    bar.querySelector(".fill").style.width = `${100 * probability}%`;
  });
}

function newBar() {
  const bar = document.createElement("li");
  const parts = ["name", "track", "percent"].map((name) => {
    const part = document.createElement("span");
    part.className = name;
    return part;
  });
  const fill = document.createElement("div");
  fill.className = "fill";
  parts[1].append(fill);
  parts[1].setAttribute("aria-hidden", "true");
  bar.append(...parts);
  return bar;
}

/** Draws a map of evidence over the part of the image that the network saw. */
function showHeat(evidence, shown) {
  const heat = $("heat");
  const [width, height] = [shown.videoWidth ?? shown.width, shown.videoHeight ?? shown.height];
  heat.width = width;
  heat.height = height;
  if (!evidence) return;
  const { map, size: [inputHeight, inputWidth], crop_mode: mode, crop_pct: share } = evidence;
  // Squash scales each side by itself; a crop, both alike until they cover the input.
  const scales = [inputWidth / share / width, inputHeight / share / height];
  const [scaleX, scaleY] = mode === "squash" ? scales : scales.map(() => Math.max(...scales));
  const [partWidth, partHeight] = [inputWidth / scaleX, inputHeight / scaleY];
  const small = document.createElement("canvas");
  small.width = map[0].length;
  small.height = map.length;
  const pixels = small.getContext("2d").createImageData(small.width, small.height);
  map.flat().forEach((value, i) => pixels.data.set([230, 60, 0, Math.round(190 * value)], 4 * i));
  small.getContext("2d").putImageData(pixels, 0, 0);
  const context = heat.getContext("2d");
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(small, (width - partWidth) / 2, (height - partHeight) / 2, partWidth, partHeight);
}

async function toggleLive() {
  if (page.isLive) {
    await stopLive();
    return;
  }
  await tried(async () => {
    $("video").srcObject = await camera();
    page.isLive = true;
    await $("video").play();
    $("live").textContent = "Stop the camera";
    $("video").hidden = false;
    $("picture").hidden = true;
    $("stage").classList.remove("empty");
    live();
  });
}

/** Predicts frame after frame, one at a time. */
async function live() {
  const canvas = document.createElement("canvas");
  while (page.isLive) {
    const video = $("video");
    const started = performance.now();
    try {
      await predict(await jpeg(drawn(canvas, video, video.videoWidth, video.videoHeight)), video, question());
    } catch (error) {
      say(error.message, true);
      await pause(1000);
    }
    await pause(Math.max(0, 100 - (performance.now() - started)));
  }
}

async function stopLive() {
  page.isLive = false;
  // What is said of the last frame comes too late.
  question();
  $("live").textContent = "Start the camera";
  $("video").hidden = true;
  $("heat").width = 0;
  $("stage").classList.toggle("empty", $("picture").hidden);
  releaseCamera();
}

// The beginning.

async function begin() {
  $("add-class").addEventListener("submit", addClass);
  $("start").addEventListener("click", train);
  $("stop").addEventListener("click", () => tried(() => ask("POST", "/api/stop")));
  $("zip").addEventListener("click", () => download("/api/run.zip", `${page.state.run.name}.zip`));
  $("onnx").addEventListener("click", () => download("/api/run.onnx", `${page.state.run.name}.onnx`));
  $("report").addEventListener("click", () => download("/api/report.html", `${page.state.run.name}.html`));
  $("live").addEventListener("click", toggleLive);
  $("evidence").addEventListener("change", () => {
    if (shownPhoto && !$("picture").hidden) tryPhoto(shownPhoto);
  });
  $("photo").addEventListener("change", (event) => {
    if (event.target.files.length > 0) tryPhoto(event.target.files[0]);
    event.target.value = "";
  });
  document.addEventListener("paste", paste);
  takeDrops($("try"), ([file]) => page.state.run && tryPhoto(file));
  // A photo that misses its place is not opened in place of the page.
  for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
  await tried(async () => {
    page.state = await askJson("GET", "/api/state");
    const { teaches, backbone } = page.state;
    document.querySelector("main").classList.toggle("teaches", teaches);
    for (const id of ["teach", "train"]) $(id).hidden = !teaches;
    $("subtitle").textContent = `${teaches ? "Learns with" : "Answers with"} ${backbone}. Photos stay on the machine that runs it.`;
    if (teaches) await refreshClasses();
    showRun();
    if (page.state.training.state === "running") await followTraining();
  });
}

begin();
