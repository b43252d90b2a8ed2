// The browser client of Coatcheck: requests that carry the session, and pages that leave when it ends.
// No dependencies. The session ends for a page when the server says so in its own words, and by nothing else.

/**
 * Why nobody is signed in any more: a deadline ("expired", "inactive"), somebody has ended the session ("revoked"), a
 * sign-out here or in another tab ("elsewhere"), the browser keeps no cookie ("no-cookie"), or nobody can say ("unknown").
 * @typedef {"expired" | "inactive" | "revoked" | "signed-out" | "elsewhere" | "no-cookie" | "unknown"} SignOutReason
 */

/**
 * Who is signed in. `reason` says why nobody is any more.
 * @typedef {object} AuthState
 * @property {boolean} signedIn
 * @property {string | null} userId
 * @property {string | null} sessionId
 * @property {string[]} scopes
 * @property {SignOutReason | null} reason
 */

/**
 * What a sign-in answers; more members may be there.
 * @typedef {object} AuthSuccess
 * @property {string} token empty in cookie mode
 * @property {string} auth_user_id
 * @property {string[]} scope_names
 */

/** @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} TokenStorage */

/**
 * @typedef {object} SessionClientOptions
 * @property {string | URL} [base] where the session routes are ("/session"); the token goes to its origin only
 * @property {"cookie" | "header"} [mode] how the token travels ("cookie")
 * @property {string | null} [loginUrl] where to go when nobody is signed in; null (the default): stay, tell the listeners
 * @property {TokenStorage} [storage] where header mode keeps its token (localStorage)
 * @property {boolean} [listen] hear at once, from the server, that the session has ended (true)
 */

/**
 * @typedef {object} SessionClient
 * @property {Promise<boolean>} ready whether somebody is signed in, as the server first says; false if it cannot be asked, and then
 *   it is asked again until it answers
 * @property {AuthState} state
 * @property {typeof fetch} fetch as `fetch`, with the session where the request goes to the origin of `base`
 * @property {() => Promise<boolean>} check ask the server; rejects, and changes nothing, where it gives no answer of its own
 * @property {(success: AuthSuccess) => Promise<void>} signedIn take up what a sign-in answered; rejects with a `CookieNotKeptError`
 *   where the browser did not keep the session cookie
 * @property {() => Promise<boolean>} signOut end this session; whether the server has confirmed it
 * @property {() => Promise<boolean>} signOutEverywhere end all sessions of the user
 * @property {(listener: (state: AuthState) => void) => () => void} onAuthChange returns what unsubscribes
 * @property {() => void} close stop listening to the server, to other tabs and to the page
 */

const RECHECK_MS = 5000;
const FIRST_PAUSE_MS = 1000;
const TIMEOUT_MS = 10_000;
const SILENCE_MS = 60_000; // the server lets nobody set more than half of it between two signs of life
const LONGEST_PAUSE_MS = 60_000;
const MESSAGE_MS = 500;

// One slash, then nothing that a browser could read as a second one; the server's `safe_next` is the same.
const OUR_PATH = /^\/(?!\/)[\w\-.~%!$&'()*+,;=:@/]*(\?[\w\-.~%!$&'()*+,;=:@/?]*)?(#[\w\-.~%!$&'()*+,;=:@/?]*)?$/;

/**
 * Where to go after signing in: `wanted` if it is a path of this site, else `fallback`.
 * @param {string | null | undefined} wanted
 * @param {string} [fallback]
 * @returns {string}
 */
export function safeNext(wanted, fallback = "/") {
  return wanted && wanted.length <= 512 && OUR_PATH.test(wanted) ? wanted : fallback;
}

/** The sign-in has succeeded, but the browser keeps no cookie of this site, so that nobody is signed in. */
export class CookieNotKeptError extends Error {
  name = "CookieNotKeptError";
}

/**
 * @param {SessionClientOptions} [options]
 * @returns {SessionClient}
 */
export function createSessionClient({ base = "/session", mode = "cookie", loginUrl = null, storage, listen = true } = {}) {
  const home = new URL(base, location.href);
  const origin = home.origin;
  const inCookie = mode === "cookie";
  const key = `coatcheck:${home.href}`;
  const store = storage ?? sharedStorage();
  const channel = channelOf(key);
  const closing = new AbortController();
  /** @type {Set<(state: AuthState) => void>} */
  const listeners = new Set();

  // What is stored says that this browser is signed in: the token itself, or in cookie mode the session's id.
  const token = () => (inCookie ? null : store.getItem(key));
  /** @type {AuthState} */
  let state = { signedIn: store.getItem(key) !== null, userId: null, sessionId: null, scopes: [], reason: null };
  let generation = 0; // grows with each sign-in and sign-out; an answer to an older question is no news
  /** @type {SignOutReason} */
  let heard = "elsewhere"; // why the session is over, in the words of another tab
  /** @type {string | null} */
  let left = null; // the session that another tab is signing out of
  let signingOut = -1; // the generation that somebody is signing out of in this tab
  let isLeaving = false;
  let lastCheck = 0;
  let isUnanswered = false; // the server could not be asked when it was last tried
  let pause = FIRST_PAUSE_MS; // before it is asked again
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let retry;
  let unconfirmed = -1; // the generation of a sign-in of which the server has not said that it is the browser's
  let isComingBack = false; // another tab has signed in
  let isHidden = false; // by us, until the server has answered
  /** @type {Promise<boolean> | null} */
  let checking = null;
  /** @type {AbortController | null} */
  let live = null;
  let wake = () => {}; // ends the pause before the stream is opened again

  /** @param {{ in: string | null } | { leaving: string | null } | { out: string | null, why: SignOutReason }} news */
  function announce(news) {
    if (!closing.signal.aborted) channel?.postMessage(news);
  }

  /** @param {AuthState} next */
  function become(next) {
    state = next;
    for (const listener of listeners) {
      try {
        listener(state);
      } catch (error) {
        reportError(error);
      }
    }
  }

  /**
   * @param {SignOutReason} why
   * @param {{ tell?: boolean }} [how]
   */
  function leave(why, { tell = true } = {}) {
    const { signedIn, sessionId } = state;
    const isAskedForHere = signingOut === generation; // a refusal may overtake the answer to the sign-out
    const reason = isAskedForHere ? "signed-out" : sessionId && left === sessionId ? "elsewhere" : why;
    if (isAskedForHere) ofThisTab((tab) => tab.setItem(key, sessionId ?? ""));
    generation++;
    heard = "elsewhere";
    stopListening();
    // In cookie mode the mark may be of a session that another tab has signed in to by now.
    if (!inCookie || sessionId === null || store.getItem(key) === sessionId) store.removeItem(key);
    if (signedIn) {
      if (tell && reason !== "no-cookie") announce({ out: sessionId, why: reason === "signed-out" ? "elsewhere" : reason });
      become({ signedIn: false, userId: null, sessionId: null, scopes: [], reason });
    }
    goToLogin(reason, !isAskedForHere);
  }

  /** @param {SignOutReason | null} reason @param {boolean} andBack */
  function goToLogin(reason, andBack) {
    if (loginUrl === null || isLeaving) return;
    const target = new URL(loginUrl, location.href);
    if (target.origin === location.origin && target.pathname === location.pathname) return;
    isLeaving = true;
    const here = safeNext(location.pathname + location.search + location.hash, "");
    if (andBack && here) target.searchParams.set("next", here);
    if (reason) target.searchParams.set("reason", reason);
    location.replace(target);
  }

  /** From the sign-in page to the page that had led here, as another tab has signed in. */
  function goBack() {
    const next = safeNext(new URLSearchParams(location.search).get("next"), "");
    if (loginUrl === null || isLeaving || !next || new URL(loginUrl, location.href).pathname !== location.pathname) return;
    isLeaving = true;
    location.replace(next);
  }

  /** @param {{ user_id: string, session_id: string, scopes: string[], events?: string }} status */
  function arrive(status) {
    const isNews = !state.signedIn || state.sessionId !== status.session_id || `${state.scopes}` !== `${status.scopes}`;
    if (inCookie && store.getItem(key) !== status.session_id) {
      store.setItem(key, status.session_id);
      announce({ in: status.session_id });
    }
    if (isNews) {
      if (state.sessionId !== status.session_id) stopListening();
      if (state.sessionId && state.sessionId !== status.session_id) generation++; // a sign-in in another tab
      const { user_id: userId, session_id: sessionId, scopes } = status;
      heard = "elsewhere";
      const wasSignedOut = !state.signedIn;
      become({ signedIn: true, userId, sessionId, scopes, reason: null });
      if (wasSignedOut && isComingBack) goBack();
    }
    if (listen && status.events && !live && !closing.signal.aborted) listenAt(status.events);
  }

  /** @param {Headers} headers @param {string | null} sent */
  function dress(headers, sent) {
    if (inCookie) headers.set("Coatcheck-Mode", "cookie");
    else if (sent !== null) headers.set("Authorization", `Bearer ${sent}`);
    return headers;
  }

  /** @param {string} path @param {RequestInit} [init] */
  function ask(path, init) {
    const credentials = inCookie ? "include" : "omit";
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const url = home.href.replace(/\/$/, "") + path;
    return fetch(url, { cache: "no-store", credentials, signal, headers: dress(new Headers(), token()), ...init });
  }

  /** @param {Response} response */
  const isOurs = (response) => new URL(response.url).origin === origin;

  async function askStatus() {
    const asked = generation;
    const sent = token();
    lastCheck = performance.now();
    if (!inCookie && sent === null) {
      if (state.signedIn) leave(heard, { tell: false });
      return false;
    }
    const response = await ask("/status");
    let status = response.status === 200 && isOurs(response) ? await response.json() : null;
    const refusal = await refusalIn(response);
    if (refusal?.code === "invalid_token") status = { signed_in: false, reason: refusal.reason ?? "revoked" };
    if (typeof status?.signed_in !== "boolean") throw new Error(`no answer to who is signed in (${response.status})`);
    if (asked !== generation || sent !== token()) return state.signedIn;
    if (status.signed_in) arrive(status);
    else if (state.signedIn) leave(status.reason ?? (unconfirmed === generation ? "no-cookie" : "unknown"));
    return state.signedIn;
  }

  function check() {
    checking ??= askStatus()
      .then(answered, (error) => {
        isUnanswered = true;
        askLater();
        throw error;
      })
      .finally(() => {
        checking = null;
      });
    return checking;
  }

  /** @param {boolean} isIn */
  function answered(isIn) {
    isUnanswered = false;
    pause = FIRST_PAUSE_MS;
    unconfirmed = -1;
    isComingBack = false;
    clearTimeout(retry);
    if (isHidden) show(!isLeaving);
    return isIn;
  }

  /** Asks again until the server answers: what a page shows must not depend on one request that failed. */
  function askLater() {
    clearTimeout(retry);
    if (closing.signal.aborted) return;
    retry = setTimeout(() => {
      if (document.visibilityState === "visible") recheck(); // else when it is
    }, pause * (0.5 + Math.random()));
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
  }

  /** Checks where nobody waits for the answer. One that was asked for before what has happened now says nothing of it. */
  function recheck() {
    const again = () => closing.signal.aborted || check();
    Promise.resolve(checking).then(again, again).catch(() => {});
  }

  /**
   * Our own refusal in a response; null in a proxy's, another site's, and any other.
   * @param {Response} response
   * @returns {Promise<{ code: string, reason?: SignOutReason } | null>}
   */
  async function refusalIn(response) {
    const type = response.headers.get("Content-Type") ?? "";
    if (response.status !== 401 || !isOurs(response) || !type.startsWith("application/problem+json")) return null;
    const problem = await response.clone().json().catch(() => null);
    return problem?.code === "invalid_token" || problem?.code === "authentication_required" ? problem : null;
  }

  /** @param {Response} response @param {string | null} sent */
  async function judge(response, sent) {
    const refusal = await refusalIn(response);
    if (!refusal || sent !== token()) return; // another tab has signed in or out since
    if (!state.signedIn) goToLogin(null, true);
    else if (inCookie) await check().catch(() => {}); // another tab may have signed in since: ask once more
    else if (refusal.code === "invalid_token" && sent) leave(refusal.reason ?? "revoked");
  }

  /** @type {typeof fetch} */
  async function sessionFetch(input, init) {
    const request = new Request(input, init);
    if (new URL(request.url).origin !== origin) return fetch(request);
    const headers = new Headers(request.headers);
    const isTheirs = /^bearer /i.test(headers.get("Authorization") ?? ""); // the server reads no cookie next to it
    const sent = headers.has("Authorization") ? null : token();
    const isCrossOrigin = origin !== location.origin && request.credentials === "same-origin";
    const credentials = inCookie && isCrossOrigin ? "include" : request.credentials;
    const response = await fetch(new Request(request, { headers: dress(headers, sent), credentials }));
    if (!isTheirs) await judge(response, sent);
    if (response.ok && isUnanswered) recheck(); // it answers again
    return response;
  }

  /** @param {AuthSuccess} success */
  async function signedIn(success) {
    if (typeof success?.token !== "string") throw new TypeError("signedIn takes what the sign-in answered");
    if (inCookie !== (success.token === "")) {
      throw new TypeError(
        inCookie
          ? "the server sent a token although this client uses cookie mode: is a SessionCookie configured?"
          : "the server sent no token although this client uses header mode",
      );
    }
    const mine = ++generation;
    heard = "elsewhere";
    checking = null;
    unconfirmed = inCookie ? mine : -1;
    stopListening();
    store.setItem(key, success.token); // empty in cookie mode, until the server has said which session it is
    become({ signedIn: true, userId: success.auth_user_id, sessionId: null, scopes: success.scope_names, reason: null });
    if (!inCookie) announce({ in: null });
    await check().catch(() => {});
    if (state.reason === "no-cookie" && generation === mine + 1) {
      throw new CookieNotKeptError("the browser did not keep the session cookie: it blocks the cookies of this site");
    }
  }

  /** @param {string} path */
  async function signOut(path) {
    const asked = (signingOut = generation);
    const sent = token();
    announce({ leaving: state.sessionId }); // the server may tell them that it is over before we can
    try {
      const response = await ask(path, { method: "POST", keepalive: true });
      return response.ok && isOurs(response) && typeof (await response.json()).ended === "number";
    } catch {
      return false;
    } finally {
      const now = token();
      if (asked === generation && (now === null || now === sent)) leave("signed-out");
      else recheck(); // somebody has signed in meanwhile, and what was to delete the old cookie may have deleted theirs
    }
  }

  function stopListening() {
    live?.abort();
    live = null;
    wake();
  }

  /**
   * One tab of all listens and tells the others: over HTTP/1.1 a browser has six connections to a site. Without locks
   * (plain http, not on this machine) none does.
   * @param {string} path
   */
  function listenAt(path) {
    const { signal } = (live = new AbortController());
    const url = new URL(path, home.href.replace(/\/?$/, "/"));
    navigator.locks?.request(`${key} ${state.sessionId}`, { signal }, () => hear(url, signal)).catch(() => {});
  }

  /** @param {URL} url @param {AbortSignal} signal */
  async function hear(url, signal) {
    for (let pause = FIRST_PAUSE_MS; !signal.aborted; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
      const connection = new AbortController();
      const cut = () => connection.abort();
      signal.addEventListener("abort", cut, { signal: connection.signal });
      let silence = setTimeout(cut, SILENCE_MS);
      try {
        const headers = { Accept: "text/event-stream" };
        const response = await sessionFetch(url, { cache: "no-store", signal: connection.signal, headers });
        const isStream = response.ok && response.headers.get("Content-Type")?.startsWith("text/event-stream");
        const reader = isStream ? response.body?.pipeThrough(new TextDecoderStream()).getReader() : null;
        let line = ""; // what has arrived of the last one
        for (let part; reader && !(part = await reader.read()).done; ) {
          clearTimeout(silence);
          silence = setTimeout(cut, SILENCE_MS);
          line += part.value;
          if (/^event: ?session_ended/m.test(line)) recheck();
          if (/^:/m.test(line)) pause = FIRST_PAUSE_MS; // it has lasted
          line = line.slice(line.lastIndexOf("\n") + 1);
        }
      } catch {
        // the network is down, or we are leaving
      }
      clearTimeout(silence);
      cut();
      if (signal.aborted) return;
      // No question in between: it would be a use of the session. Opening the stream is none, and says as much.
      await new Promise((/** @type {(value?: undefined) => void} */ resolve) => {
        wake = resolve;
        setTimeout(resolve, pause * (0.5 + Math.random()));
      });
    }
  }

  /** @param {EventTarget} target @param {string} type @param {(event: any) => void} listener */
  function on(target, type, listener) {
    target.addEventListener(type, listener, { signal: closing.signal });
  }

  /** @param {string | null} ended @param {SignOutReason} [why] */
  function endedElsewhere(ended, why = heard) {
    if (closing.signal.aborted || !state.signedIn || (ended && state.sessionId && ended !== state.sessionId)) return;
    heard = why;
    const mark = store.getItem(key);
    // Signed in again by now; or, which only the server can tell from that in header mode, the storage is a moment late.
    if (mark !== null && (!inCookie || mark !== ended)) return recheck();
    leave(heard, { tell: false });
  }

  if (channel) {
    on(channel, "message", ({ data }) => {
      if ("leaving" in data) left = data.leaving;
      else if ("out" in data) endedElsewhere(data.out, data.why);
      else comeBack();
    });
  }

  /** Another tab has signed in. */
  function comeBack() {
    isComingBack = true;
    recheck();
  }
  on(window, "storage", (event) => {
    if (event.key !== null && event.key !== key) return;
    if (event.key === null) recheck(); // emptied as a whole, not by a sign-out
    else if (event.newValue !== null) comeBack();
    // The message that says why is on its way, unless the tab that sends it has no channel, or was closed to it.
    else {
      const look = () => (store.getItem(key) === null ? endedElsewhere(inCookie ? event.oldValue : null) : recheck());
      setTimeout(look, channel ? MESSAGE_MS : 0);
    }
  });

  const lookAgain = () => {
    if (document.visibilityState !== "visible") return;
    wake();
    if (isUnanswered || performance.now() - lastCheck > RECHECK_MS) recheck();
  };
  on(window, "focus", lookAgain);
  on(document, "visibilitychange", lookAgain);
  on(window, "online", () => {
    wake();
    recheck();
  });

  // A form may be what ends the session. Where to go then is for its answer to say, which is on its way.
  on(window, "submit", ({ defaultPrevented }) => {
    if (defaultPrevented) return;
    isLeaving = true;
    setTimeout(() => {
      isLeaving = false;
      if (state.reason) goToLogin(state.reason, true);
    }, TIMEOUT_MS);
  });

  // The back button may bring a page back from memory as it was. What is private on it is hidden before it goes there.
  /** @param {boolean} visible */
  function show(visible) {
    isHidden = !visible;
    document.documentElement.style.visibility = visible ? "" : "hidden";
  }
  on(window, "pagehide", (event) => {
    stopListening();
    if (event.persisted && state.signedIn) show(false);
  });
  on(window, "pageshow", (event) => {
    if (!event.persisted) return;
    isLeaving = false;
    checking = null;
    if (!state.signedIn) return show(true);
    if (store.getItem(key) !== null) return recheck(); // shown when the server has answered
    const isOurs = ofThisTab((tab) => tab.getItem(key)) === state.sessionId;
    leave(isOurs ? "signed-out" : "unknown", { tell: false });
    show(!isLeaving);
  });

  return {
    ready: check().catch(() => false),
    get state() {
      return state;
    },
    fetch: sessionFetch,
    check,
    signedIn,
    signOut: () => signOut("/sign-out"),
    signOutEverywhere: () => signOut("/sign-out-all"),
    onAuthChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close() {
      closing.abort();
      clearTimeout(retry);
      stopListening();
      channel?.close();
      listeners.clear();
    },
  };
}

/**
 * The channel of the tabs; null where the browser has or allows none.
 * @param {string} name
 */
function channelOf(name) {
  try {
    return new BroadcastChannel(name);
  } catch {
    return null;
  }
}

/**
 * Uses the storage of this tab, if the browser allows any.
 * @template T
 * @param {(tab: Storage) => T} use
 * @returns {T | null}
 */
function ofThisTab(use) {
  try {
    return use(sessionStorage);
  } catch {
    return null;
  }
}

/**
 * The storage that all tabs share, or memory where the browser allows none.
 * @returns {TokenStorage}
 */
function sharedStorage() {
  try {
    const probe = "coatcheck:probe";
    localStorage.setItem(probe, probe);
    localStorage.removeItem(probe);
    return localStorage;
  } catch {
    /** @type {Map<string, string>} */
    const kept = new Map();
    return {
      getItem: (key) => kept.get(key) ?? null,
      setItem: (key, value) => void kept.set(key, value),
      removeItem: (key) => void kept.delete(key),
    };
  }
}
