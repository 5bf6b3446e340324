import { DOCKER } from "./open-places.ts";
import { keepsReferences } from "./references-behaviour.ts";
import { behavesAsSandbox } from "./sandbox-behaviour.ts";

behavesAsSandbox(DOCKER);
keepsReferences(DOCKER);
