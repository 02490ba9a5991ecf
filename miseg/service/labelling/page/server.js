// What the page says to the server: questions, and changes that are not lost when it does not answer.

export class ServerError extends Error {
  constructor(status, body) {
    super(body.error || `the server answered ${status}`);
    this.status = status;
    this.body = body;
  }
}

const TOKEN = "miseg-token";

export function takeToken() {
  // From the printed address; it does not stay where it can be seen.
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    setToken(given);
    history.replaceState(null, "", location.pathname);
  }
}

export function setToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

// `body` makes it a POST: an object as JSON, a File as it is.
export async function ask(path, parameters = {}, body = null) {
  const query = new URLSearchParams(parameters).toString();
  const headers = { "X-Miseg": "1" };
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  const options = { headers, cache: "no-store" };
  if (body !== null) {
    options.method = "POST";
    options.body = body instanceof Blob ? body : JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(`api/${path}${query ? `?${query}` : ""}`, options);
  } catch {
    throw new ServerError(0, { error: "the server does not answer" });
  }
  if (!answer.ok) {
    const text = await answer.text();
    let told = {};
    try {
      told = JSON.parse(text);
    } catch {
      told = { error: `the server answered ${answer.status}` };
    }
    throw new ServerError(answer.status, told);
  }
  return answer;
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Changes, sent one after the other. What was not answered is kept in this tab, over a reload too: saying
// a drawing or a class again changes nothing.
export class Changes {
  constructor(place, { revision, saved, refused, waiting }) {
    this.key = `miseg-changes ${place}`;
    this.revision = revision;
    this.saved = saved;
    this.refused = refused;
    this.waiting = waiting;
    this.sending = false;
    try {
      this.queue = JSON.parse(sessionStorage.getItem(this.key)) || [];
    } catch {
      this.queue = [];
    }
  }

  push(change) {
    this.queue.push(change);
    this.keep();
    this.send();
  }

  keep() {
    if (this.queue.length) sessionStorage.setItem(this.key, JSON.stringify(this.queue));
    else sessionStorage.removeItem(this.key);
  }

  async send() {
    if (this.sending) return;
    this.sending = true;
    let wait = 500;
    while (this.queue.length) {
      const change = this.queue[0];
      const history = change.do === "undo" || change.do === "redo";
      try {
        const body = { revision: this.revision(), ...(history ? {} : { change }) };
        const answer = await ask(history ? change.do : "change", {}, body);
        const state = await answer.json();
        this.queue.shift();
        this.keep();
        this.saved(state, change);
        wait = 500;
      } catch (error) {
        if (error.status === 409 || error.status === 422 || error.status === 413) {
          this.queue.shift();
          this.keep();
          await this.refused(error, change);
        } else {
          this.waiting(error, this.queue.length);
          await pause(wait);
          wait = Math.min(2 * wait, 8000);
        }
      }
    }
    this.sending = false;
  }
}
