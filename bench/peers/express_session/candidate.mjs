/* express-session with connect-pg-simple: the middleware, as Express calls it for a request with the session's cookie.
 *
 * A request checks the cookie's signature (HMAC-SHA256) and reads one row by its id, if that has not expired; no user
 * is read. Nothing is written here; with the response the middleware also touches each loaded session (UPDATE), which
 * is not measured. The id is the stored key as it is, so the wrong secret is a signature by another key.
 */
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

import connect from "connect-pg-simple";
import { sign } from "cookie-signature";
import session from "express-session";
import pg from "pg";

import { insert, keeper, range, serve, USERS } from "../shared.mjs";

const SECRET = "a secret of the benchmark, 32 by";
const DAYS = 14;
const DAY_MS = 24 * 60 * 60 * 1000;

const pool = new pg.Pool({ connectionString: process.env.BENCH_POSTGRES, max: 64 });
const store = new (connect(session))({ pool, pruneSessionInterval: false });
const middleware = session({
  cookie: { maxAge: DAYS * DAY_MS },
  resave: false,
  saveUninitialized: false,
  secret: SECRET,
  store,
});

const cookie = (id, secret = SECRET) => `connect.sid=${encodeURIComponent(`s:${sign(id, secret)}`)}`;
const newId = () => randomBytes(24).toString("base64url"); // as uid-safe makes it

/* The row of a session that expires then, as the store writes it. */
function row(id, number, expires) {
  const stored = { originalMaxAge: DAYS * DAY_MS, expires: expires.toISOString(), httpOnly: true, path: "/" };
  return [id, JSON.stringify({ cookie: stored, userId: number % USERS }), expires];
}

async function fill(sessions) {
  await pool.query(await readFile(createRequire(import.meta.url).resolve("connect-pg-simple/table.sql"), "utf8"));
  const { sample, keep } = keeper(sessions);
  const expired = newId();
  const later = new Date(Date.now() + DAYS * DAY_MS);
  function* rows() {
    for (const number of range(sessions)) {
      const id = newId();
      keep(number, () => cookie(id));
      yield row(id, number, later);
    }
    yield row(expired, 0, new Date(Date.now() - DAY_MS));
  }
  await insert(pool, "session", { sid: "varchar", sess: "json", expire: "timestamp" }, rows());
  await pool.query("VACUUM (ANALYZE)");
  const wrong = cookie(newId(), "another secret of the benchmark!");
  return { sample, refused: { expired: cookie(expired), "wrong secret": wrong, "unknown id": cookie(newId()) } };
}

function validate(credential) {
  return new Promise((resolve, reject) => {
    const request = { headers: { cookie: credential }, url: "/", socket: {} };
    const response = { end() {}, write() {}, writeHead() {} };
    middleware(request, response, (error) => {
      if (error) reject(error);
      else resolve(request.session.userId !== undefined);
    });
  });
}

await serve({ fill, validate, close: () => pool.end(), packages: ["express-session", "connect-pg-simple", "pg"] });
