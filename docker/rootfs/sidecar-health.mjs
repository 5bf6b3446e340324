// The image's HEALTHCHECK: whether the service in this container answers `GET /health`.
const [host, port] = [process.env.PILLION_HOST, process.env.PILLION_PORT].map((text) => text ?? "");
// Kubernetes sets PILLION_PORT=tcp://… for a service of that name, which the service leaves aside too.
const at = `${["", "0.0.0.0", "::"].includes(host) ? "127.0.0.1" : host}:${/^\d+$/.test(port) ? port : 8765}`;
const answer = await fetch(`http://${at}/health`, { signal: AbortSignal.timeout(4_000) }).catch(
  ({ message, cause }) => ({ ok: false, status: cause?.message ?? message }),
);
if (!answer.ok) {
  process.stdout.write(`no answer of health at ${at}: ${answer.status}\n`);
  process.exitCode = 1;
}
