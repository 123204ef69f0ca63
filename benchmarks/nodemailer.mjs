// Nodemailer's pool, measured as measured.py measures the others: node nodemailer.mjs FOLDER JOB
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, text] = process.argv.slice(2);
const { job, messages: fields, counter } = JSON.parse(text);
const nodemailer = createRequire(`${folder}/`)("nodemailer");
const width = job.connections;
const transport = nodemailer.createTransport({
  pool: true,
  maxConnections: width,
  maxMessages: Infinity,
  host: "127.0.0.1",
  port: job.port,
  ...(job.is_secure ? { requireTLS: true, auth: { user: "user", pass: "of the benchmarks" } } : { ignoreTLS: true }),
});

function make(content, count) {
  const { body, html, attached } = fields[content];
  const data = attached ? Buffer.alloc(attached, Buffer.from(Array.from({ length: 256 }, (_, n) => n))) : null;
  return Array.from({ length: count }, (_, n) => ({
    from: "from@example.com",
    to: `to${n}@example.com`,
    subject: `Message ${n}`,
    text: body,
    ...(html ? { html } : {}),
    ...(data ? { attachments: [{ filename: "attached.bin", content: data }] } : {}),
  }));
}

async function queued(messages) {
  await Promise.all(messages.map((message) => transport.sendMail(message)));
  return [];
}

async function awaited(messages) {
  const source = messages.values();
  const latencies = [];
  const work = async () => {
    for (const message of source) {
      const since = performance.now();
      await transport.sendMail(message);
      latencies.push((performance.now() - since) / 1000);
    }
  };
  await Promise.all(Array.from({ length: width }, work));
  return latencies;
}

const send = job.sender.endsWith("queued") ? queued : awaited;
const cpu = () => {
  const used = process.resourceUsage();
  return (used.userCPUTime + used.systemCPUTime) / 1e6;
};
const sinkCpu = () => Number(execFileSync(counter[0], [...counter.slice(1), String(job.sink)]));

const peak = () => Number(readFileSync("/proc/self/status", "utf8").match(/VmHWM:\s+(\d+)/)[1]);

await send(make(job.content, width));
let total = width;
let count = 2 * width;
let result;
for (;;) {
  const messages = make(job.content, count);
  writeFileSync("/proc/self/clear_refs", "5");
  const before = peak();
  const [sink, usedBefore, since] = [sinkCpu(), cpu(), performance.now()];
  const latencies = await send(messages);
  const seconds = (performance.now() - since) / 1000;
  const usedNow = cpu();
  total += count;
  result = { messages: count, seconds, cpu: usedNow - usedBefore, sink_cpu: sinkCpu() - sink, memory: peak() - before, latencies };
  if (seconds >= job.budget / 2 || count === 20000) break;
  count = Math.min(20000, width * Math.max(1, Math.floor((count * Math.min(10, Math.max(2, (0.9 * job.budget) / seconds))) / width)));
}
transport.close();
console.log(JSON.stringify({ ...result, total, calls: null }));
