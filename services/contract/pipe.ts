/** Names on the pipe. Apart from the schemas, because the guard starts faster without a schema library. */

/** Streams that the guard opens. Request bodies flow to the sidecar, response bodies to the guard. */
export const PIPE_PATHS = {
  /** NDJSON both ways: replies and notices up, commands down. Opened first, closed last. */
  control: "/control",
  /** Up: the process's stdout. Down: its stdin. */
  stdio: "/stdio",
  /** Up: the process's stderr. */
  stderr: "/stderr",
  /** Up: the bytes that a command asked for; `?id=` names the command. */
  data: "/data",
  /** Down: a tar stream to unpack; `?id=` names the command. */
  fill: "/fill",
  /** Both ways: one connection that somebody inside made to the door. */
  door: "/door",
} as const;

export const MAX_CONTROL_CHARS = 1_048_576;
