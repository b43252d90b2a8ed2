export type SignOutReason = "expired" | "inactive" | "revoked" | "signed-out" | "elsewhere" | "no-cookie" | "unknown";
export type AuthState = {
    signedIn: boolean;
    userId: string | null;
    sessionId: string | null;
    scopes: string[];
    reason: SignOutReason | null;
};
export type AuthSuccess = {
    /**
     * empty in cookie mode
     */
    token: string;
    auth_user_id: string;
    scope_names: string[];
};
export type TokenStorage = Pick<Storage, "getItem" | "setItem" | "removeItem">;
export type SessionClientOptions = {
    /**
     * where the session routes are ("/session"); the token goes to its origin only
     */
    base?: string | URL;
    /**
     * how the token travels ("cookie")
     */
    mode?: "cookie" | "header";
    /**
     * where to go when nobody is signed in; null (the default): stay, tell the listeners
     */
    loginUrl?: string | null;
    /**
     * where header mode keeps its token (localStorage)
     */
    storage?: TokenStorage;
    /**
     * hear at once, from the server, that the session has ended (true)
     */
    listen?: boolean;
};
export type SessionClient = {
    /**
     * whether somebody is signed in, as the server first says; false if it cannot be asked, and then
     * it is asked again until it answers
     */
    ready: Promise<boolean>;
    state: AuthState;
    /**
     * as `fetch`, with the session where the request goes to the origin of `base`
     */
    fetch: typeof fetch;
    /**
     * ask the server; rejects, and changes nothing, where it gives no answer of its own
     */
    check: () => Promise<boolean>;
    /**
     * take up what a sign-in answered; rejects with a `CookieNotKeptError`
     * where the browser did not keep the session cookie
     */
    signedIn: (success: AuthSuccess) => Promise<void>;
    /**
     * end this session; whether the server has confirmed it
     */
    signOut: () => Promise<boolean>;
    /**
     * end all sessions of the user
     */
    signOutEverywhere: () => Promise<boolean>;
    /**
     * returns what unsubscribes
     */
    onAuthChange: (listener: (state: AuthState) => void) => () => void;
    /**
     * stop listening to the server, to other tabs and to the page
     */
    close: () => void;
};
/**
 * Where to go after signing in: `wanted` if it is a path of this site, else `fallback`.
 * @param {string | null | undefined} wanted
 * @param {string} [fallback]
 * @returns {string}
 */
export declare function safeNext(wanted: string | null | undefined, fallback?: string): string;
/** The sign-in has succeeded, but the browser keeps no cookie of this site, so that nobody is signed in. */
export declare class CookieNotKeptError extends Error {
    name: string;
}
/**
 * @param {SessionClientOptions} [options]
 * @returns {SessionClient}
 */
export declare function createSessionClient({ base, mode, loginUrl, storage, listen }?: SessionClientOptions): SessionClient;
