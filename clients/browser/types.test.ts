// What the types allow and what they do not. It is checked, never run.

import { createSessionClient, safeNext, type AuthState, type SessionClient } from "./coatcheck.js";

const session: SessionClient = createSessionClient({ base: "/session", mode: "cookie", loginUrl: "/sign-in" });
createSessionClient();
createSessionClient({ mode: "header", storage: sessionStorage, loginUrl: null });
// @ts-expect-error there are two modes
createSessionClient({ mode: "jwt" });
// @ts-expect-error a misspelt option
createSessionClient({ loginURL: "/sign-in" });

const answer: Promise<Response> = session.fetch("/api/notes", { method: "POST" });
const unsubscribe: () => void = session.onAuthChange((state: AuthState) => {
  const user: string | null = state.userId;
  if (state.reason === "expired") console.log(user, state.scopes.join(" "));
  // @ts-expect-error not a reason
  if (state.reason === "bored") console.log(user);
});
const confirmed: Promise<boolean> = session.signOut();
// @ts-expect-error what a sign-in answers has a token
session.signedIn({});
const path: string = safeNext(new URLSearchParams(location.search).get("next"), "/app");
console.log(answer, unsubscribe, confirmed, path, session.state.signedIn);
