// The flags of the proxy.
import { expect, test } from "vitest";
import { readOptions } from "../src/options.ts";

test("flags that are empty, as a compose file gives them, are as if not given", () => {
  const given = [
    "--image",
    "a,b",
    "--image",
    "c",
    "--memory=",
    "--cpus=",
    "--bind=",
    "--network=",
    "--scope=",
    "--browser-image=",
  ];
  expect(readOptions(given)).toEqual({
    kind: "serve",
    options: {
      listen: "/run/pillion/engine.sock",
      engine: "/var/run/docker.sock",
      images: ["a", "b", "c"],
      browserImages: [],
      scope: "pillion",
      binds: [],
      network: undefined,
      runtimes: ["runc", "runsc"],
      cpus: 4,
      memoryBytes: 8 * 1024 ** 3,
      pids: 512,
      containers: 64,
    },
  });
});

test.each([
  ["no image", []],
  ["an image that is empty", ["--image="]],
  ["an image of a browser that is not allowed", ["--image", "a,b", "--browser-image", "c"]],
  ["the host's network", ["--image", "a", "--network", "host"]],
  ["another container's network", ["--image", "a", "--network", "container:x"]],
  ["a directory with dots", ["--image", "a", "--bind", "/srv/../etc"]],
  ["the root directory", ["--image", "a", "--bind", "/"]],
  ["a relative directory", ["--image", "a", "--bind", "srv"]],
  ["a size that is none", ["--image", "a", "--memory", "much"]],
  ["a size of none", ["--image", "a", "--memory", "0"]],
  ["a size that the service would not take", ["--image", "a", "--memory", "8gb"]],
  ["a number that is none", ["--image", "a", "--pids", "0"]],
  ["a flag that there is not", ["--image", "a", "--privileged"]],
  ["a word too many", ["--image", "a", "b"]],
])("%s is refused at the start", (_what, flags) => {
  expect(() => readOptions(flags)).toThrow();
});

test("images of browsers are some of those that are allowed", () => {
  expect(readOptions(["--image", "a,b,c", "--browser-image", "b", "--browser-image=c"])).toMatchObject({
    options: { images: ["a", "b", "c"], browserImages: ["b", "c"] },
  });
});
