// Requests to the server of this page; what it refuses becomes an Error with its words.

async function answer(response) {
  if (!response.ok) throw new Error((await response.text()).trim() || `error ${response.status}`);
  return response;
}

export const json = async (path) => (await answer(await fetch(path))).json();
export const bytes = async (path) => (await answer(await fetch(path))).arrayBuffer();
export const send = async (path, body, headers = {}) =>
  (await answer(await fetch(path, { method: "POST", body, headers }))).json();

// The last few answers, so that neighbours can be asked for ahead.
export class Store {
  constructor(most, load) {
    this.most = most;
    this.load = load;
    this.held = new Map();
  }
  get(key) {
    let found = this.held.get(key);
    if (found) this.held.delete(key);
    else {
      found = this.load(key);
      found.catch(() => this.held.delete(key));
    }
    this.held.set(key, found);
    if (this.held.size > this.most) this.held.delete(this.held.keys().next().value);
    return found;
  }
}

export const picture = async (path) => {
  const image = new Image();
  image.src = path;
  await image.decode();
  return image;
};
