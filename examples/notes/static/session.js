// What the pages do when the session ends, in this tab or another, here or on the server: go to the sign-in page, at
// once and without a click. Without a script they find out on their next click.

import { createSessionClient } from "/api/session/client.js";

const isPrivate = "private" in document.body.dataset;

const session = createSessionClient({
  base: "/api/session",
  mode: "cookie",
  loginUrl: isPrivate || location.pathname === "/sign-in" ? "/sign-in" : null,
});

// A form cannot tell that the cookie it gets is not kept.
const warning = document.querySelector("#no-cookies");
if (warning) warning.hidden = navigator.cookieEnabled;

// Signing out works as a form. By way of the session the other tabs hear of it at once; if the server cannot be
// reached, the form is sent after all, and the browser says what is wrong.
document.addEventListener("submit", async (event) => {
  if (event.target.getAttribute("action") !== "/sign-out") return;
  event.preventDefault();
  if (!(await session.signOut())) event.target.submit();
});

// The end of a session may take a page away from under somebody who is writing. The note waits in this tab for whoever
// wrote it. Nothing is kept where the person has signed out.
const DRAFT = "draft";
const note = document.querySelector("form[action='/notes'] textarea");
let writer = null;
session.onAuthChange(({ signedIn, userId, reason }) => {
  if (!signedIn) {
    const isKept = writer && note?.value.trim() && ["revoked", "expired", "inactive", "unknown"].includes(reason);
    if (isKept) sessionStorage.setItem(DRAFT, JSON.stringify({ writer, text: note.value }));
    return;
  }
  writer = userId;
  const draft = JSON.parse(sessionStorage.getItem(DRAFT));
  if (draft?.writer === writer && (!note || note.value)) return; // its place is another page
  sessionStorage.removeItem(DRAFT);
  if (draft?.writer === writer) note.value = draft.text;
});
