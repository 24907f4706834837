// Small questions, and pages that open over the chat.
import { copy, icon, iconButton, make, toast } from "./dom.js";
import { get, policy, post, remove } from "./api.js";
import { say } from "./words.js";

export function openDialog(title, body, { side = false, onclose } = {}) {
  const dialog = make("dialog", { class: side ? "page-side" : "", "aria-label": title });
  const head = make("header", {}, make("h2", {}, title), iconButton("close", say("close"), () => dialog.close()));
  dialog.append(make("div", { class: "dialog" }, head, body));
  dialog.addEventListener("close", () => { dialog.remove(); onclose?.(dialog.returnValue); });
  dialog.addEventListener("pointerdown", (event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

export function confirm(title, note, label) {
  return new Promise((answer) => {
    const row = make("div", { class: "row" },
      make("button", { class: "button", onclick: () => dialog.close("") , autofocus: true }, say("cancel")),
      make("button", { class: "button bad-button", onclick: () => dialog.close("yes") }, label));
    const dialog = openDialog(title, [make("p", {}, note), row], { onclose: (value) => answer(value === "yes") });
  });
}

export function ask(title, label, value, button, { note, secret = false } = {}) {
  return new Promise((answer) => {
    const field = make("input", { class: "field", value, maxLength: 200, required: true, "aria-label": label, type: secret ? "password" : "text", autocomplete: "off" });
    let given = null;
    const form = make("form", { method: "dialog", onsubmit: () => { given = field.value.trim() || null; } },
      note ? make("p", {}, note) : null, field,
      make("div", { class: "row" },
        make("button", { type: "button", class: "button", onclick: () => dialog.close() }, say("cancel")),
        make("button", { type: "submit", class: "button main-button" }, button)));
    const dialog = openDialog(title, [form], { onclose: () => answer(given) });
    field.select();
  });
}

export function showSources(citations, number) {
  const found = citations.map((one) => make("section", { class: one.number === number ? "source here" : "source" },
    make("h3", {}, make("span", { class: "citation" }, String(one.number)), make("span", {}, one.title)),
    make("small", {}, place(one.place)), make("blockquote", { dir: "auto" }, one.text)));
  const dialog = openDialog(say("sourcesTitle"), [make("p", {}, say("sourcesNote")), ...found], { side: true });
  dialog.querySelector(".here")?.scrollIntoView({ block: "nearest" });
}

// The server writes "p. 2" and "l. 3-7".
function place(text) {
  const [, kind, at] = /^([pl])\. (.+)$/.exec(text) ?? [];
  if (!kind) return text;
  return say(kind === "p" ? "page" : at.includes("-") ? "lines" : "oneLine", { at: at.replace("-", "–") });
}

export async function showPolicy() {
  const found = await policy();
  const rules = found.refuse.map((rule) => make("section", { class: "source" },
    make("h3", {}, rule.name),
    make("small", {}, rule.where.map((where) => say(where === "question" ? "inQuestions" : "inAnswers")).join(", ")),
    make("blockquote", {}, rule.reason), make("p", {}, make("code", {}, rule.pattern))));
  const note = found.refuse.length ? [found.title && make("p", {}, found.title), make("p", {}, say("policyNote"))] : [make("p", {}, say("nothingRefused"))];
  openDialog(say("policyTitle"), [...note.filter(Boolean), ...rules], { side: true });
}

export async function shareChat(chat) {
  const list = make("ul", { class: "shares" });
  const show = async () => {
    const { shares } = await get(`/chats/${chat}/shares`);
    list.replaceChildren(...shares.map((one) => {
      const link = `${location.origin}/share/${one.token}`;
      return make("li", {},
        make("input", { class: "field", readOnly: true, value: link, "aria-label": say("link"), onfocus: (event) => event.target.select() }),
        iconButton("copy", say("copy"), async () => { if (await copy(link)) toast(say("copied")); }),
        make("button", { class: "button", onclick: async () => { await remove(`/shares/${one.token}`); show(); } }, say("endLink")));
    }));
  };
  openDialog(say("shareTitle"), [make("p", {}, say("shareNote")), list, make("div", { class: "row" },
    make("button", { class: "button main-button", onclick: async () => { await post(`/chats/${chat}/shares`); show(); } }, icon("share"), " ", say("makeLink")))]);
  await show();
}

export async function showDocuments() {
  const found = await get("/knowledge");
  if (!found.name) return void openDialog(say("documents"), [make("p", {}, say("documentsNone"))]);
  if (found.documents === undefined) return void openDialog(say("documents"), [make("p", {}, say("hintSource", found))]);
  const parts = [make("p", {}, say("documentsCount", found)), found.waiting ? make("p", {}, say("documentsWaiting", found)) : null,
    found.without_vector ? make("p", {}, say("documentsWithoutVector", found)) : null];
  if (found.problems.length) {
    parts.push(make("h3", {}, say("documentsProblems")), make("ul", { class: "problems" }, found.problems.map((one) => make("li", {}, one.problem))));
  }
  openDialog(say("documents"), parts.filter(Boolean));
}
