/* What the candidates in JavaScript share: the lines of ../contract.py, and rows in bulk into PostgreSQL.
 *
 * The same work as there, in the same order: show that a live session is accepted and that the others are refused,
 * then so many callers in one event loop, each going through a shuffled order of its own of the sample.
 */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";

const SAMPLE = 50_000;
export const USERS = 1000;

const BATCH = 5000;

/* So many numbers, without the end. */
export function* range(end) {
  for (let number = 0; number < end; number += 1) yield number;
}

/* Insert `rows`, arrays in the order of `columns` (name: type), by arrays. */
export async function insert(pool, table, columns, rows) {
  const names = Object.keys(columns).map((name) => `"${name}"`);
  const arrays = Object.values(columns).map((type, number) => `$${number + 1}::${type}[]`);
  const text = `INSERT INTO "${table}" (${names}) SELECT * FROM unnest(${arrays})`;
  let values = names.map(() => []);
  const flush = async () => {
    if (values[0].length) await pool.query(text, values);
    values = names.map(() => []);
  };
  for (const row of rows) {
    row.forEach((value, number) => values[number].push(value));
    if (values[0].length === BATCH) await flush();
  }
  await flush();
}

/* Answer each line of standard input with one of standard output, until it says quit, or ends. */
export async function serve({ fill, validate, close, packages }) {
  let sample = [];
  const orders = {
    fill: async ({ sessions }) => {
      const filled = await fill(sessions);
      sample = filled.sample;
      for (const credential of sample.slice(0, 100)) {
        expect(await validate(credential), "a live session is refused");
      }
      for (const reason of ["expired", "wrong secret"]) {
        expect(filled.refused[reason], `the candidate does not show that it refuses: ${reason}`);
      }
      for (const [reason, credential] of Object.entries(filled.refused)) {
        expect(!(await validate(credential)), `accepted in spite of: ${reason}`);
      }
      return { filled: sessions, versions: { node: process.versions.node, ...versions(packages) } };
    },
    run: ({ call, concurrency, seconds }) => {
      expect(call === "validate", "only validations are measured");
      return run(validate, sample, concurrency, seconds);
    },
  };
  for await (const line of createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    if (order.do === "quit") break;
    let answer;
    try {
      answer = await orders[order.do](order);
    } catch (error) {
      answer = { error: `${error.name}: ${error.message}` };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  await close();
}

async function run(validate, sample, concurrency, seconds) {
  const latencies = [];
  const orders = Array.from(range(concurrency), () => shuffled(sample));
  await Promise.all(orders.map((credentials) => validate(credentials[0]))); // connects
  const end = performance.now() + seconds * 1000;

  const caller = async (credentials) => {
    let now = performance.now();
    for (let position = 0; now < end; position += 1) {
      expect(await validate(credentials[position % credentials.length]), "a live session is refused");
      const before = now;
      now = performance.now();
      latencies.push(now - before);
    }
  };
  const cpu = process.cpuUsage();
  const start = performance.now();
  await Promise.all(orders.map(caller));
  const took = performance.now() - start;
  const { user, system } = process.cpuUsage(cpu);
  latencies.sort((one, other) => one - other);
  const count = latencies.length;
  return {
    operations: count,
    seconds: took / 1000,
    p50_us: latencies[Math.floor(count / 2)] * 1000,
    p99_us: latencies[Math.min(count - 1, Math.floor((count * 99) / 100))] * 1000,
    cpu_us: (user + system) / count,
  };
}

function shuffled(sample) {
  const ordered = [...sample];
  for (let last = ordered.length - 1; last > 0; last -= 1) {
    const other = Math.floor(Math.random() * (last + 1));
    [ordered[last], ordered[other]] = [ordered[other], ordered[last]];
  }
  return ordered;
}

/* As installed; each candidate's program stands beside its packages. */
function versions(packages) {
  const read = (name) => JSON.parse(readFileSync(join(dirname(process.argv[1]), "node_modules", name, "package.json"), "utf8")).version;
  return Object.fromEntries(packages.map((name) => [name, read(name)]));
}

function expect(condition, otherwise) {
  if (!condition) throw new Error(otherwise);
}

/* Keeps the credential of every so manieth session while the rows are made, for the sample. */
export function keeper(sessions) {
  const step = Math.max(1, Math.floor(sessions / SAMPLE));
  const sample = [];
  const keep = (number, credential) => {
    if (number % step === 0 && sample.length < SAMPLE) sample.push(credential());
  };
  return { sample, keep };
}
