import { describe, expect, test } from "vitest";
import { isPublicAddress } from "../../../src/broker/address-rule.ts";

describe("which addresses a caller's URL may reach", () => {
  test.each([
    "1.1.1.1",
    "93.184.215.14",
    "172.15.255.255",
    "172.32.0.1",
    "2606:4700:4700::1111",
    "::ffff:1.1.1.1",
  ])("%s is public", (address) => {
    expect(isPublicAddress(address)).toBe(true);
  });

  test.each([
    ["127.0.0.1", "loopback"],
    ["127.255.255.254", "loopback"],
    ["0.0.0.0", "unspecified"],
    ["10.0.0.1", "private"],
    ["172.16.0.1", "private"],
    ["172.31.255.255", "private"],
    ["192.168.1.1", "private"],
    ["100.64.0.1", "carrier-grade NAT"],
    ["169.254.169.254", "link-local: a cloud's metadata"],
    ["224.0.0.1", "multicast"],
    ["255.255.255.255", "broadcast"],
    ["240.0.0.1", "reserved"],
    ["192.0.2.1", "documentation"],
    ["198.18.0.1", "benchmarking"],
    ["::", "unspecified"],
    ["::1", "loopback"],
    ["fe80::1", "link-local"],
    ["fc00::1", "unique local"],
    ["fd00:ec2::254", "unique local: a cloud's metadata"],
    ["ff02::1", "multicast"],
    ["2001:db8::1", "documentation"],
    ["::ffff:127.0.0.1", "loopback as IPv4-mapped"],
    ["::ffff:169.254.169.254", "link-local as IPv4-mapped"],
    ["::ffff:7f00:1", "loopback as IPv4-mapped, hexadecimal"],
    ["64:ff9b::7f00:1", "loopback as NAT64"],
    ["2002:7f00:1::", "loopback as 6to4"],
    ["2001:0:7f00:1::", "Teredo"],
    ["::127.0.0.1", "loopback as IPv4-compatible"],
  ])("%s is not: %s", (address) => {
    expect(isPublicAddress(address)).toBe(false);
  });

  test.each(["", "localhost", "example.com", "1.2.3.4.5", "999.1.1.1", "1.1.1.1 ", ":::1"])(
    "%j is no address, so it is not public",
    (text) => {
      expect(isPublicAddress(text)).toBe(false);
    },
  );
});
