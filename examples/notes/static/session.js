// What the pages do when the session ends, in this tab or another, here or on the server: go to the sign-in page.
// Without a script they find out on their next click.

import { createSessionClient } from "/api/session/client.js";

const isPrivate = "private" in document.body.dataset;

const session = createSessionClient({
  base: "/api/session",
  mode: "cookie",
  loginUrl: isPrivate ? "/sign-in" : null,
});

// Signing out works as a form. By way of the session the other tabs hear of it at once; if the server cannot be
// reached, the form is sent after all, and the browser says what is wrong.
document.addEventListener("submit", async (event) => {
  if (event.target.getAttribute("action") !== "/sign-out") return;
  event.preventDefault();
  if (!(await session.signOut())) event.target.submit();
});
