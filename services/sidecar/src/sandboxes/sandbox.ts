/** The place where a run's processes live, as the conductor and the harness drivers see it. */
import type { Duplex, Readable } from "node:stream";
import type { FailureCode } from "#contract/failure";
import type { FillTarget, GuardView } from "#contract/guard";
import type { Exit, InlineFile } from "#contract/run";
import type { Receipt, SandboxKind } from "#contract/sandbox";

/** What a run may read and never write, at `/refs/<name>`. */
export type Reference = {
  readonly name: string;
  readonly source:
    | { readonly kind: "bind"; readonly path: string }
    | { readonly kind: "content"; readonly content: Buffer };
};

/** What a run wants of its place; already clamped by the operator's settings. */
export type SandboxSpec = {
  readonly runId: string;
  readonly requestedKind: "auto" | SandboxKind;
  readonly workspace:
    | { readonly kind: "scratch"; readonly bytes: number }
    | { readonly kind: "bind"; readonly path: string };
  /** True for readers: nothing in the sandbox can write to the workspace once it is sealed. */
  readonly readOnly: boolean;
  readonly pids: number;
  /** What the request wants lower than the operator's ceiling; only kinds that can limit these are asked. */
  readonly cpus?: number;
  readonly memoryBytes?: number;
  readonly references: readonly Reference[];
  /** `open`: a network of the engine's, which the operator has allowed. */
  readonly network: "none" | "open";
  /** An image that the operator has allowed, in place of the usual one. */
  readonly image?: string;
  /** A reader's files, for kinds that have to bring them in before the workspace is read-only. */
  readonly initialFiles?: readonly FillFile[];
  /** False: nothing under the workspace, home or temp can be executed. */
  readonly executable: boolean;
};

/** Where things are inside this sandbox. */
export type SandboxPaths = {
  readonly workspace: string;
  readonly home: string;
  readonly temp: string;
  readonly node: string;
  /** Directory of the product's own parts: `pi/`, `extension/`, `skills/`. */
  readonly product: string;
  /** Value for PATH. */
  readonly path: string;
};

export type PlaceEnd = { readonly detail: string };

/**
 * What a kind of sandbox has to give: a duplex stream to the guard inside it, and its end. All else goes over the pipe.
 * Disposing destroys it and resolves when it was seen that nothing of it is left; it throws a Fault if that failed.
 */
export interface Place extends AsyncDisposable {
  readonly pipe: Duplex;
  readonly paths: SandboxPaths;
  /** What to look at where the guard never began; without it, this machine. */
  readonly startHint?: string;
  /** What was filled from the spec before the place began. */
  readonly filled?: readonly FillTarget[];
  /** Resolves when the place has ended for whatever reason; never rejects. */
  readonly ended: Promise<PlaceEnd>;
  /** Takes the last rights away, and the workspace's writability if asked. Called once, before anything untrusted runs. */
  seal(readOnlyWorkspace: boolean): Promise<void>;
  /** The receipt, from what the guard saw; throws isolation_unavailable when weaker than this kind promises. */
  toReceipt(view: GuardView): Receipt;
}

export type PlaceProbe = {
  readonly kind: SandboxKind;
  readonly available: boolean;
  readonly isolated: boolean;
  /** One sentence for logs and /v1/capabilities; says what would mend it when not available. */
  readonly detail: string;
  readonly missing: readonly string[];
  /** Why it is not available; without it, isolation_unavailable. */
  readonly code?: FailureCode;
};

/** A kind of sandbox that this host may offer. */
export interface PlaceKind {
  readonly kind: SandboxKind;
  /** True where what `probe` says may change while the service runs. */
  readonly mayChange?: boolean;
  probe(): Promise<PlaceProbe>;
  /** Refuses, before a run is accepted, what `open` would refuse: image_missing, forbidden. */
  admit?(spec: SandboxSpec): Promise<void>;
  /** Throws isolation_unavailable, sandbox_unavailable, forbidden. */
  open(spec: SandboxSpec, signal: AbortSignal): Promise<Place>;
  /** Ends what a crashed earlier process of this instance left; resolves to how many it found, null where it could not look. */
  sweep(): Promise<number | null>;
  /** As `sweep`, but beside live runs, again and again; only of kinds that can leave something without a crash. */
  reap?(): Promise<number>;
  /** Lets go what was kept for all runs; after the last one. Never throws. */
  close?(): Promise<void>;
}

export type ProgramSpec = {
  readonly program: string;
  readonly args: readonly string[];
  /** The whole environment of the program. */
  readonly env: Readonly<Record<string, string>>;
};

/** The harness's process inside the sandbox. */
export interface SandboxProcess {
  /** Readable: its stdout. Writable: its stdin. */
  readonly stdio: Duplex;
  /** Last characters of its stderr so far. */
  stderrTail(): string;
  readonly exited: Promise<Exit>;
  signal(signal: "SIGTERM" | "SIGKILL"): Promise<void>;
}

export type FillFile = Pick<InlineFile, "path" | "executable"> & { readonly content: Buffer };

export interface Sandbox extends AsyncDisposable {
  readonly receipt: Receipt;
  /** Digest of the extension that lies in the sandbox's product, as the guard read it. */
  readonly extensionSha256: string;
  /** Digests of the harnesses in the sandbox's product, as its build wrote them down. */
  readonly harnessSha256: Readonly<Record<string, string>>;
  readonly paths: SandboxPaths;
  /** Port on the sandbox's own loopback whose connections reach the sidecar. */
  readonly doorPort: number;
  /** Rejects with sandbox_lost when the sandbox ends without being asked to. Never resolves. */
  readonly lost: Promise<never>;
  fill(target: FillTarget, files: readonly FillFile[]): Promise<void>;
  /** Takes the baseline that changes are told against, and the last rights; before anything untrusted runs. */
  seal(): Promise<void>;
  start(program: ProgramSpec): Promise<SandboxProcess>;
  /** Kills everything inside but the guard; throws sandbox_lost when something is left. Resolves to how many were killed. */
  clear(): Promise<number>;
  /** JSON bytes of the changes. All of these come from untrusted hands: bounded, to be parsed. */
  openChanges(): Promise<Readable>;
  openDiff(): Promise<Readable>;
  openFile(path: string): Promise<Readable>;
  /** The changed files as a tar, but those that are too large together (contract/kept-files.ts). */
  openTar(maxBytes: number): Promise<Readable>;
  /** Destroys the sandbox. Resolves when it was seen that nothing is left, throws sandbox_lost otherwise. */
  close(): Promise<void>;
}
