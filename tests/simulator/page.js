"use strict";
// Everything a person or the bot wrote reaches the page through textContent only.

const LABELS = {
  en: {
    subtitle: "Platform simulator", other: "中文", dingtalk: "DingTalk", feishu: "Feishu",
    direct: "direct", group: "group", write: "Write a message…", send: "Send",
    welcome: "Say hello to the bot", how: "Your message is signed as the real platform does it and posted to the gateway on this machine.",
    posting: "sending…", ack: "acknowledged in {0} ms", refused: "HTTP {0}: {1}", unreached: "not delivered: {0}",
    after: "answered after {0} s", later: "further part or repeat, after {0} s", repeats: "repeated {0}×, shown once",
    route_session: "session webhook", route_robot: "robot API", route_reply: "reply", route_send: "send", route_ack: "in the acknowledgement",
    rejected: "a send was refused: {0}", waiting: "waiting for the answer",
    up: "gateway ready", down: "gateway not reachable at {0}", busy: "gateway not ready: {0}", lost: "simulator stopped",
    reasons: {},
    hints: ["Hello!", "What can you do?", "Do you remember me?"],
  },
  zh: {
    subtitle: "平台模拟器", other: "English", dingtalk: "钉钉", feishu: "飞书",
    direct: "单聊", group: "群聊", write: "输入消息…", send: "发送",
    welcome: "和机器人打个招呼吧", how: "消息会按真实平台的方式签名，发往本机的网关。",
    posting: "发送中…", ack: "{0} 毫秒确认", refused: "HTTP {0}：{1}", unreached: "未送达：{0}",
    after: "{0} 秒后答复", later: "后续部分或重复，{0} 秒后", repeats: "重复发送 {0} 次，只显示一次",
    route_session: "会话回调", route_robot: "机器人接口", route_reply: "回复接口", route_send: "发送接口", route_ack: "随确认返回",
    rejected: "一次发送被拒绝：{0}", waiting: "等待答复",
    up: "网关就绪", down: "连不上网关 {0}", busy: "网关未就绪：{0}", lost: "模拟器已停止",
    reasons: {
      0: "连不上网关，它在运行吗？", 401: "网关拒绝了签名：它须使用本模拟器的凭据", 404: "网关没有这个地址：该平台配置了吗？",
      413: "消息太大", 429: "每秒消息过多，请稍后再发", 503: "网关暂时无法记录消息：Redis 不可用，或队列已满",
    },
    hints: ["你好！", "你能做什么？", "你还记得我吗？"],
  },
};
const PERSON = "M12 12a4.500 4.500 0 1 0 0-9 4.500 4.500 0 0 0 0 9Zm0 2c-4.500 0-8.500 2.300-8.500 5.500V21h17v-1.500c0-3.200-4-5.500-8.500-5.500Z";
const PEOPLE = "M9 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8Zm0 2c-4 0-7.500 2-7.500 5V20h15v-2c0-3-3.500-5-7.500-5Zm7.500-2a3.500 3.500 0 1 0-1.700-6.500 5.800 5.800 0 0 1-.3 5.900c.6.4 1.300.6 2 .6Zm1 2.100c1.300 1.200 2 2.700 2 4.400V20h3v-2c0-2.500-2.200-4.300-5-4.900Z";

const byId = (id) => document.getElementById(id);
const state = { language: firstLanguage(), chats: [], records: new Map(), picked: "", read: new Map(), gateway: null, live: false };

function firstLanguage() {
  const kept = localStorage.getItem("language");
  return kept in LABELS ? kept : navigator.language.startsWith("zh") ? "zh" : "en";
}
function label(name, ...values) {
  return LABELS[state.language][name].replace(/\{(\d)\}/g, (_, index) => values[index]);
}
function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}
function avatar(chat) {
  const node = make("span", "avatar " + chat.platform);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", chat.group ? PEOPLE : PERSON);
  svg.append(path);
  node.append(svg);
  return node;
}
const titleOf = (chat) =>
  `${label(chat.platform)} · ${label(chat.group ? "group" : "direct")}${chat.number > 1 ? " " + chat.number : ""}`;
const recordsOf = (id) => [...state.records.values()].filter((r) => r.conversation === id).sort((a, b) => a.seq - b.seq);
const shownOf = (id) => recordsOf(id).filter((r) => r.kind === "event" || r.outcome === "visible");
const pickedChat = () => state.chats.find((chat) => chat.id === state.picked);

function draw() {
  document.documentElement.lang = state.language;
  document.querySelectorAll("[data-label]").forEach((node) => { node.textContent = label(node.dataset.label); });
  byId("language").textContent = label("other");
  byId("text").placeholder = label("write");
  byId("send").setAttribute("aria-label", label("send"));
  drawChats(); drawAdd(); drawTalk(); drawGateway();
}

function drawChats() {
  byId("chats").replaceChildren(...state.chats.map((chat) => {
    const shown = shownOf(chat.id);
    const answers = shown.filter((r) => r.kind === "send").length;
    const button = make("button", "chat" + (chat.id === state.picked ? " picked" : ""));
    button.type = "button";
    const words = make("span", "chat-words");
    words.append(make("div", "chat-title", titleOf(chat)), make("div", "chat-last", shown.at(-1)?.text ?? ""));
    button.append(avatar(chat), words);
    if (chat.id === state.picked && isTalking()) state.read.set(chat.id, answers);
    const unread = answers - (state.read.get(chat.id) ?? 0);
    if (unread > 0) button.append(make("span", "unread", unread > 99 ? "99+" : unread));
    button.addEventListener("click", () => pick(chat.id));
    return button;
  }));
}
function isTalking() {
  return byId("app").classList.contains("talking") || matchMedia("(min-width: 721px)").matches;
}

function drawAdd() {
  const platforms = [...new Set(state.chats.map((chat) => chat.platform))];
  byId("add").replaceChildren(...platforms.flatMap((platform) => [false, true].map((group) => {
    const button = make("button", "", `+ ${label(platform)} ${label(group ? "group" : "direct")}`);
    button.type = "button";
    button.addEventListener("click", async () => pick((await call("/chat/conversations", { platform, group })).id));
    return button;
  })));
}

function drawTalk() {
  const chat = pickedChat();
  if (!chat) return;
  byId("head-avatar").replaceWith(Object.assign(avatar(chat), { id: "head-avatar" }));
  byId("head-title").textContent = titleOf(chat);
  byId("head-id").textContent = chat.id;
  const talk = byId("talk");
  const records = recordsOf(chat.id);
  const wasAtEnd = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 120;
  const lines = shownOf(chat.id).map((record) => (record.kind === "event" ? question(record, records) : answer(record, records)));
  const waits = records.some((r) => r.kind === "event" && r.status === 200 && !answersTo(r, records).length);
  if (waits) lines.push(dots());
  talk.replaceChildren(...(lines.length ? lines : [welcome()]));
  if (wasAtEnd) talk.scrollTop = talk.scrollHeight;
}
const answersTo = (event, records) =>
  records.filter((r) => r.kind === "send" && r.outcome === "visible" && r.message_id === event.message_id);

function question(event, records) {
  const failed = event.status !== 200 && event.reason !== "";
  const line = make("div", "line mine" + (failed ? " failed" : ""));
  const facts = [make("span", "", time(event.at))];
  if (event.status === 200) facts.push(make("span", "", label("ack", Math.round(event.ack_ms))));
  else if (!failed) facts.push(make("span", "", label("posting")));
  else {
    const reason = LABELS[state.language].reasons[event.status] ?? event.reason;
    const fact = make("span", "bad", event.status ? label("refused", event.status, reason) : label("unreached", reason));
    fact.title = event.reason;
    facts.push(fact);
  }
  const refused = records.filter((r) => r.kind === "send" && r.message_id === event.message_id && r.outcome === "refused");
  if (refused.length) facts.push(make("span", "warn", label("rejected", refused.map((r) => r.code).join(", "))));
  return fill(line, event.text, facts);
}
function answer(send, records) {
  const line = make("div", "line");
  const facts = [make("span", "", time(send.at))];
  const event = records.find((r) => r.kind === "event" && r.message_id === send.message_id);
  if (event) {
    const isFirst = answersTo(event, records)[0] === send;
    facts.push(make("span", isFirst ? "" : "warn", label(isFirst ? "after" : "later", (send.at - event.at).toFixed(2))));
  }
  facts.push(make("span", "", label("route_" + send.route)));
  const repeats = records.filter((r) => r.outcome === "repeat" && r.receipt === send.receipt).length;
  if (send.receipt && repeats) facts.push(make("span", "warn", label("repeats", repeats + 1)));
  return fill(line, send.text, facts);
}
function fill(line, text, facts) {
  const row = make("div", "facts");
  row.append(...facts);
  line.append(make("div", "bubble", text), row);
  return line;
}
function dots() {
  const line = make("div", "line");
  const bubble = make("div", "bubble");
  const row = make("span", "dots");
  row.setAttribute("aria-label", label("waiting"));
  row.append(make("i"), make("i"), make("i"));
  bubble.append(row);
  line.append(bubble);
  return line;
}
function welcome() {
  const box = make("div", "empty");
  const hints = make("div", "hints");
  hints.append(...LABELS[state.language].hints.map((text) => {
    const button = make("button", "", text);
    button.type = "button";
    button.addEventListener("click", () => send(text));
    return button;
  }));
  box.append(make("b", "", label("welcome")), make("span", "", label("how")), hints);
  return box;
}
const time = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });

function drawGateway() {
  const node = byId("gateway");
  const gateway = state.gateway;
  const [className, text] = !state.live ? ["bad", label("lost")]
    : !gateway ? ["", "…"]
    : gateway.status === 200 ? ["good", label("up")]
    : gateway.status ? ["busy", label("busy", gateway.detail)] : ["bad", label("down", gateway.url)];
  node.className = "gateway " + className;
  node.title = gateway ? gateway.detail : "";
  node.lastElementChild.textContent = text;
}

function pick(id) {
  state.picked = id;
  byId("app").classList.add("talking");
  draw();
  byId("talk").scrollTop = byId("talk").scrollHeight;
  if (matchMedia("(min-width: 721px)").matches) byId("text").focus();
}
async function call(path, value) {
  const response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) });
  return response.json();
}
async function send(text) {
  const chat = pickedChat();
  if (!chat || !text.trim()) return;
  byId("talk").scrollTop = byId("talk").scrollHeight;
  try {
    await call("/chat/send", { platform: chat.platform, conversation: chat.id, text });
  } catch {
    if (!byId("text").value) byId("text").value = text;
    fit();
  }
}
function fit() {
  const text = byId("text");
  text.style.height = "auto";
  text.style.height = text.scrollHeight + 2 + "px";
  byId("send").disabled = !text.value.trim();
}
function sendWritten() {
  const text = byId("text").value;
  if (!text.trim()) return;
  byId("text").value = "";
  fit();
  send(text);
}

let drawing = 0;
function drawSoon() {
  cancelAnimationFrame(drawing);
  drawing = requestAnimationFrame(() => { drawChats(); drawTalk(); });
}
function listen() {
  const source = new EventSource("/chat/stream");
  source.addEventListener("hello", ({ data }) => {
    const hello = JSON.parse(data);
    const isFirst = state.chats.length === 0;
    state.live = true;
    state.chats = hello.conversations;
    state.records = new Map(hello.records.map((record) => [record.seq, record]));
    if (isFirst) state.chats.forEach((chat) => state.read.set(chat.id, shownOf(chat.id).filter((r) => r.kind === "send").length));
    if (!pickedChat()) state.picked = state.chats[0]?.id ?? "";
    draw();
  });
  source.addEventListener("record", ({ data }) => {
    const record = JSON.parse(data);
    state.records.set(record.seq, record);
    drawSoon();
  });
  source.addEventListener("conversation", ({ data }) => {
    const chat = JSON.parse(data);
    if (!state.chats.some((known) => known.id === chat.id)) state.chats.push(chat);
    draw();
  });
  source.addEventListener("error", () => { state.live = false; drawGateway(); });
}
async function watchGateway() {
  if (document.hidden) return;
  try {
    state.gateway = await (await fetch("/chat/gateway")).json();
  } catch {
    state.gateway = null;
  }
  drawGateway();
}

byId("write").addEventListener("submit", (event) => { event.preventDefault(); sendWritten(); });
byId("text").addEventListener("input", fit);
byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); sendWritten(); }
});
byId("back").addEventListener("click", () => { byId("app").classList.remove("talking"); draw(); });
byId("language").addEventListener("click", () => {
  state.language = state.language === "zh" ? "en" : "zh";
  localStorage.setItem("language", state.language);
  draw();
});
window.addEventListener("resize", () => { byId("talk").scrollTop = byId("talk").scrollHeight; });
fit();
draw();
listen();
watchGateway();
setInterval(watchGateway, 4000);
