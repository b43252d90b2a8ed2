// The types of the served module, as docs/how-to/browser-client.md says to map them.
import { createSessionClient, type AuthState } from "/session/client.js";

const session = createSessionClient({ base: "/session", mode: "cookie", loginUrl: "/sign-in" });
const state: AuthState = session.state;
const answer: Promise<Response> = session.fetch("/api/notes");
// @ts-expect-error: there is no such mode
createSessionClient({ mode: "jwt" });

console.log(state.signedIn, answer);
