import { expect, test } from "vitest";
import { readInterfaces, toRoutedInterfaces } from "../src/interfaces.ts";

const HEADING = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
const LOOPBACK =
  "00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001       lo\n";

test("without an address to ask for, an interface is found by its route", () => {
  const four = `${HEADING}eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n`;
  const six = LOOPBACK.replace("      lo", "    eth1");
  expect(toRoutedInterfaces(four, `${LOOPBACK}${six}`)).toEqual(["eth0", "lo", "eth1"]);
  expect(toRoutedInterfaces(HEADING, LOOPBACK)).toEqual(["lo"]);
  expect(toRoutedInterfaces(HEADING, "")).toEqual([]);
});

test("this machine's interfaces have loopback among them", async () => {
  expect(await readInterfaces()).toContain("lo");
});
