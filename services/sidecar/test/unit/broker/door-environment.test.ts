import { expect, test } from "vitest";
import { toDoorEnvironment } from "../../../src/broker/door-environment.ts";
import { openOutsideServer } from "../../fakes/outside-server.ts";
import { openDoor, openLease } from "../../fakes/told-lease.ts";

test.each([true, false])(
  "S3.4 a base URL can be asked with what the environment always has, without any credential (proxy: %s)",
  async (isProxy) => {
    await using outside = await openOutsideServer();
    const { port } = outside;
    const { lease, events } = openLease({
      patterns: [`http://127.0.0.1:${port}`],
      dialer: { privateTargets: [{ scheme: "http", host: "127.0.0.1", port, cidr: null }] },
    });
    const { PILLION_DOOR, PILLION_PLACEHOLDER } = toDoorEnvironment({
      port: await openDoor(lease),
      placeholder: lease.placeholder,
      credentials: [],
      isProxy,
    });
    const ask = (headers: Record<string, string>) =>
      fetch(`${PILLION_DOOR}/to/http/127.0.0.1:${port}/echo`, { headers });
    const answer = await ask({ authorization: `Bearer ${PILLION_PLACEHOLDER}` });
    expect(answer.status).toBe(200);
    expect(await answer.text()).not.toContain(lease.placeholder);
    expect((await ask({})).status).toBe(401); // the control
    expect(events.map(({ allowed, reason }) => [allowed, reason])).toEqual([
      [true, null],
      [false, "no_placeholder"],
    ]);
  },
);
