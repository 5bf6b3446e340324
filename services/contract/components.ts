/** Schemas that have a name of their own on the OpenAPI page. */
import type { z } from "zod";
import { AgentRequest, CredentialRequest, ModelRequest, Skill } from "./agent.ts";
import { Capabilities } from "./capabilities.ts";
import { EgressRefusal, EgressSummary } from "./egress.ts";
import { RunEvent } from "./event.ts";
import { FieldError, Problem } from "./failure.ts";
import { HarnessInfo, RunHarness } from "./harness.ts";
import { HarnessList, Health, ProbeReport, RunLine, RunPage } from "./routes.ts";
import {
  ChangedFile,
  ChangedFiles,
  Exit,
  Limits,
  Message,
  Run,
  RunId,
  RunOutcome,
  RunRequest,
  RunState,
  Stop,
  Timings,
  Usage,
  WorkspaceRequest,
} from "./run.ts";
import { Receipt, SandboxRequest } from "./sandbox.ts";

export const COMPONENTS: Readonly<Record<string, z.ZodType>> = {
  AgentRequest,
  Capabilities,
  ChangedFile,
  ChangedFiles,
  CredentialRequest,
  EgressRefusal,
  EgressSummary,
  Exit,
  FieldError,
  HarnessInfo,
  HarnessList,
  Health,
  Limits,
  Message,
  ModelRequest,
  ProbeReport,
  Problem,
  Receipt,
  Run,
  RunEvent,
  RunHarness,
  RunId,
  RunLine,
  RunOutcome,
  RunPage,
  RunRequest,
  RunState,
  SandboxRequest,
  Skill,
  Stop,
  Timings,
  Usage,
  WorkspaceRequest,
};
