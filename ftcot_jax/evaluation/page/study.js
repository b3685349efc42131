// The sample study: filters, pages and cards. Whatever a model wrote reaches the page as text, never as markup.
"use strict";
(() => {
  const PAGE = 20;          // questions on a page
  const FOLD = 900;         // characters beyond which a text is folded
  const FEW = 4;            // texts of one student shown before the rest is asked for
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const fields = ["search", "dataset", "student", "outcome", "category", "other", "change"];

  // Texts by question: [question, student, completion, rationale, text, prediction, right, categories, slips, end].
  const questions = data.questions.map(([dataset, index, question, gold]) =>
    ({ dataset, index, question, gold, texts: [] }));
  for (const [question, student, number, rationale, text, prediction, right, categories, slips, end] of data.texts) {
    questions[question].texts.push({ student, number, rationale, text, prediction, right, categories, slips, end });
  }
  for (const question of questions) {
    question.words = question.question.toLowerCase();
    for (const text of question.texts) {
      text.words = null;
      text.several = question.texts.filter((one) => one.student === text.student).length > 1;
    }
  }

  function make(tag, className, content) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (content !== undefined) node.textContent = content;
    return node;
  }

  function options(select, first, names, counts) {
    select.append(new Option(first, ""));
    names.forEach((name, place) => select.append(new Option(counts ? `${name} (${counts[place]})` : name, place)));
  }

  const counts = data.categories.map((_, place) => data.texts.filter((row) => row[7].includes(place)).length);
  at("title").textContent = data.title;
  document.title = `${data.title} - sample study`;
  at("about").textContent = data.about;
  options(at("dataset"), "all datasets", data.datasets);
  options(at("student"), "all students", data.students);
  options(at("category"), "any or none", data.categories.map(([name]) => name), counts);
  at("category").append(new Option("none of these", "none"));
  options(at("other"), "nobody", data.students);
  for (const [name, meaning] of data.categories) at("legend").append(make("dt", "", name), make("dd", "", meaning));

  let shown = [];   // the questions that pass, each with its texts that pass
  let page = 0;
  let current = -1; // the card that j and k go from

  const some = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
  const state = () => Object.fromEntries(fields.map((id) => [id, at(id).value]));

  function passes(text, wanted) {
    if (wanted.outcome && text.right !== (wanted.outcome === "right")) return false;
    if (wanted.category === "none") return text.categories.length === 0;
    return wanted.category === "" || text.categories.includes(Number(wanted.category));
  }

  function holds(question, text, words) {
    if (text.words === null) text.words = `${text.rationale || ""}\n${text.text}`.toLowerCase();
    return words.every((word) => question.words.includes(word) || text.words.includes(word));
  }

  // Of several texts, a student is right on a question if most are.
  const mostly = (texts) => texts.filter((text) => text.right).length * 2 > texts.length;

  function differs(mine, theirs, change) {
    if (!mine.length || !theirs.length) return false;
    const [one, other] = [mostly(mine), mostly(theirs)];
    if (change === "changed") return one !== other;
    if (change === "gained") return one && !other;
    if (change === "lost") return other && !one;
    return change !== "same" || one === other;
  }

  function filter() {
    const wanted = state();
    const words = wanted.search.toLowerCase().split(/\s+/).filter(Boolean);
    const student = wanted.student === "" ? null : Number(wanted.student);
    const other = wanted.other === "" || student === null ? null : Number(wanted.other);
    at("other").disabled = student === null;
    at("change").disabled = other === null;
    shown = [];
    for (const question of questions) {
      if (wanted.dataset !== "" && question.dataset !== Number(wanted.dataset)) continue;
      const mine = question.texts.filter((text) => student === null || text.student === student);
      const found = mine.filter((text) => passes(text, wanted) && holds(question, text, words));
      if (!found.length) continue;
      const theirs = other === null ? [] : question.texts.filter((text) => text.student === other);
      if (other !== null && !differs(mine, theirs, wanted.change)) continue;
      // Beside another student's, all texts are shown: the comparison is of them all. Those that pass come first.
      const rest = other === null ? [] : mine.filter((text) => !found.includes(text));
      shown.push({ question, found, rest, theirs, beside: other !== null });
    }
  }

  function status() {
    const texts = shown.flatMap((row) => row.found);
    const right = texts.filter((text) => text.right).length;
    const share = texts.length ? `, ${(100 * right / texts.length).toFixed(1)}% right` : "";
    at("status").textContent = `${some(shown.length, "question")}, ${some(texts.length, "text")}${share}`;
  }

  // Signs that change the direction of what follows are shown by name: they could make a text lie about itself.
  const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

  function put(node, text) {
    let from = 0;
    for (const found of text.matchAll(HIDDEN)) {
      node.append(text.slice(from, found.index));
      const code = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      node.append(make("span", "sign", `[U+${code}]`));
      from = found.index + found[0].length;
    }
    node.append(text.slice(from));
    return node;
  }

  function putMarked(node, text, slips) {
    let from = 0;
    for (const slip of slips) {
      const start = text.indexOf(slip, from);
      if (start < 0) continue;
      put(node, text.slice(from, start));
      node.append(put(make("mark"), slip));
      from = start + slip.length;
    }
    return put(node, text.slice(from));
  }

  function written(text, slips, className) {
    const node = putMarked(make("p", `written ${className}`), text, slips);
    node.dir = "auto";
    if (text.length <= FOLD) return [node];
    node.classList.add("folded");
    const more = make("button", "more", "show all of it");
    more.type = "button";
    more.addEventListener("click", () => { node.classList.remove("folded"); more.remove(); });
    return [node, more];
  }

  function textNode(text) {
    const node = make("section", `text ${text.right ? "right" : "wrong"}`);
    const head = make("h2", "", data.students[text.student] + (text.several ? ` #${text.number}` : ""));
    const verdict = text.right ? "right" : "wrong";
    const said = text.prediction === null ? "no answer" : text.prediction.trim().slice(0, 80);
    head.append(put(make("span", "verdict"), `${verdict}: ${said}`));
    node.append(head);
    if (text.rationale !== null) node.append(...written(text.rationale.trim(), text.slips, ""));
    const answer = text.text.trim();
    node.append(...written(answer || "(nothing)", text.slips, text.rationale === null ? "" : "answer"));
    if (text.categories.length) {
      const notes = make("ul", "notes");
      for (const place of text.categories) notes.append(make("li", "", data.categories[place][0]));
      for (const slip of text.slips) notes.append(put(make("li"), `wrong: ${slip}`));
      node.append(notes);
    }
    if (text.end) node.append(make("p", "end", `ended: ${text.end}`));
    return node;
  }

  function column(texts) {
    const node = make("div", "texts");
    node.append(...texts.slice(0, FEW).map(textNode));
    if (texts.length > FEW) {
      const more = make("button", "more", `${texts.length - FEW} more texts`);
      more.type = "button";
      more.addEventListener("click", () => {
        more.replaceWith(...texts.slice(FEW).map(textNode));
      });
      node.append(more);
    }
    return node;
  }

  function card({ question, found, rest, theirs, beside }) {
    const node = make("article");
    node.tabIndex = -1;
    const where = make("p", "where");
    where.append(make("span", "", data.datasets[question.dataset]), make("span", "", `question ${question.index}`));
    const asked = put(make("p", "question"), question.question.trim());
    asked.dir = "auto";
    node.append(where, asked, put(make("p", "gold"), `Answer: ${question.gold}`));
    if (beside) {
      const both = make("div", "texts beside");
      both.append(column([...found, ...rest]), column(theirs));
      node.append(both);
    } else node.append(column(found));
    return node;
  }

  function draw() {
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    current = -1;
    const cards = shown.slice(page * PAGE, (page + 1) * PAGE).map(card);
    at("cards").replaceChildren(...(cards.length ? cards : [make("p", "none", "Nothing passes these filters.")]));
    at("page").textContent = `page ${page + 1} of ${pages}`;
    at("previous").disabled = page === 0;
    at("next").disabled = page === pages - 1;
  }

  function remember() {
    const kept = new URLSearchParams(Object.entries(state()).filter(([, value]) => value !== ""));
    if (page) kept.set("page", page + 1);
    try {
      history.replaceState(null, "", `#${kept}`);
    } catch {
      // Some browsers refuse it for files; the page works without.
    }
  }

  function recall() {
    const kept = new URLSearchParams(location.hash.slice(1));
    for (const id of fields) {
      const value = kept.get(id) || "";
      const known = id === "search" || [...at(id).options].some((option) => option.value === value);
      at(id).value = known ? value : "";
    }
    page = (Number.parseInt(kept.get("page"), 10) || 1) - 1;
  }

  function update() {
    page = 0;
    filter();
    status();
    draw();
    remember();
  }

  function turn(by) {
    const before = page;
    page += by;
    draw();
    if (page !== before) scrollTo(0, at("status").offsetTop);
    remember();
  }

  function step(by) {
    const cards = document.querySelectorAll("article");
    if (!cards.length) return;
    current = Math.min(Math.max(current + by, 0), cards.length - 1);
    cards[current].focus({ preventScroll: true });
    cards[current].scrollIntoView({ block: "start" });
  }

  let waiting = 0;
  at("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(update, 120); });
  at("filters").addEventListener("change", (event) => { if (event.target !== at("search")) update(); });
  at("filters").addEventListener("submit", (event) => { event.preventDefault(); update(); });
  at("filters").addEventListener("reset", () => setTimeout(update));
  at("previous").addEventListener("click", () => turn(-1));
  at("next").addEventListener("click", () => turn(1));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input, select");
    if (event.key === "Escape" && typing) event.target.blur();
    if (typing) return;
    if (event.key === "/") { event.preventDefault(); at("search").focus(); }
    const steps = { j: () => step(1), k: () => step(-1), n: () => turn(1), p: () => turn(-1) };
    steps[event.key]?.();
  });

  recall();
  filter();
  status();
  draw();
})();
