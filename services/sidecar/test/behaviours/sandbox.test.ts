import { FAKE, LOCAL, UNISOLATED } from "./open-places.ts";
import { behavesAsSandbox } from "./sandbox-behaviour.ts";

for (const maker of [FAKE, LOCAL, UNISOLATED]) behavesAsSandbox(maker);
