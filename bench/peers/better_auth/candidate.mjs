/* better-auth: `auth.api.getSession({ headers })`, with its cookie, as a server calls it for a request.
 *
 * A request checks the cookie's signature (HMAC-SHA256) and reads the session's row by its token and then its user's;
 * its cookie cache, by which a session lives on after it was revoked, is off (the default). It writes nothing: a
 * session is renewed once a day. Tokens are stored as they are, so the wrong secret is a signature by another key.
 */
import { createHmac, randomBytes, randomUUID } from "node:crypto";

import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import pg from "pg";

import { insert, keeper, range, serve, USERS } from "../shared.mjs";

const SECRET = "Jx5pK2vQ9sW7mT4rZ8bN1cF6hL3dG0yA"; // of the benchmark
const DAY_MS = 24 * 60 * 60 * 1000;

const pool = new pg.Pool({ connectionString: process.env.BENCH_POSTGRES, max: 64 });
const auth = betterAuth({
  baseURL: "http://127.0.0.1:3000",
  database: pool,
  emailAndPassword: { enabled: true },
  secret: SECRET,
});
const { authCookies } = await auth.$context;

function headers(token, secret = SECRET) {
  const signature = createHmac("sha256", secret).update(token).digest("base64");
  return { cookie: `${authCookies.sessionToken.name}=${encodeURIComponent(`${token}.${signature}`)}` };
}

const newToken = () => randomBytes(24).toString("base64url"); // 32 characters, as its own

async function fill(sessions) {
  await (await getMigrations(auth.options)).runMigrations();
  const now = new Date();
  const users = Array.from(range(Math.min(sessions, USERS)), (number) => [
    randomUUID(), `User ${number}`, `user${number}@example.org`, true, now, now,
  ]);
  const user = { id: "text", name: "text", email: "text", emailVerified: "boolean" };
  await insert(pool, "user", { ...user, createdAt: "timestamptz", updatedAt: "timestamptz" }, users);

  const { sample, keep } = keeper(sessions);
  const expired = newToken();
  const row = (token, number, expires) => [
    randomUUID(), expires, token, now, now, "192.0.2.1", "bench", users[number % users.length][0],
  ];
  function* rows() {
    for (const number of range(sessions)) {
      const token = newToken();
      keep(number, () => headers(token));
      yield row(token, number, new Date(now.getTime() + 7 * DAY_MS));
    }
    yield row(expired, 0, new Date(now.getTime() - DAY_MS));
  }
  const times = { createdAt: "timestamptz", updatedAt: "timestamptz" };
  const columns = { id: "text", expiresAt: "timestamptz", token: "text", ...times };
  await insert(pool, "session", { ...columns, ipAddress: "text", userAgent: "text", userId: "text" }, rows());
  await pool.query("VACUUM (ANALYZE)");
  const wrong = headers(newToken(), "another secret of the benchmark!");
  return { sample, refused: { expired: headers(expired), "wrong secret": wrong, "unknown token": headers(newToken()) } };
}

async function validate(credential) {
  const found = await auth.api.getSession({ headers: new Headers(credential) });
  return found !== null && found.user.id === found.session.userId;
}

await serve({ fill, validate, close: () => pool.end(), packages: ["better-auth", "pg"] });
