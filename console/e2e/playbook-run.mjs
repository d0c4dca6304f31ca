// A playbook in a real browser: tried, then run, from the page of an alert. The dry run does nothing, and the run does
// what the dry run said. Started by tests/end-to-end (playbooks.rs), which has raised the alert before.
// Fails on any page error, console error or CSP violation.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";

import { openBrowser, signIn } from "./browser.mjs";

const {
  RAMPART_URL: url,
  RAMPART_PASSWORD: password,
  RAMPART_ALERT: alert,
  RAMPART_PLAYBOOK: playbook,
  RAMPART_STEPS: stepCount,
  RAMPART_VICTIM: victim,
  RAMPART_VICTIM_PID: victimPid,
} = process.env;
const LIMIT = 60_000;

const { browser, page, complaints, byTestId, shown } = await openBrowser(url);

await signIn({ page, shown, byTestId }, url, password);
await shown("nav-dashboard");

await page.goto(`${url}/alerts/${alert}`);
await shown("playbook-id");
await byTestId("playbook-id").fill(playbook);

const rows = byTestId("playbook-runs").locator("tbody tr");
const dryRow = rows.filter({ hasText: "dry run" });
const realRow = rows.filter({ hasNotText: "dry run" });

/** Opens a run that has completed, and reads what each of its steps planned and became. */
const stepsOf = async (row, outcome) => {
  await row.locator('[data-testid="run-state"][data-state="completed"]').waitFor({ timeout: LIMIT });
  await row.locator("button").click();
  await shown("run-drawer");
  // What the agent says of its orders comes on another road than the run's end.
  await page.waitForFunction(
    ({ count, outcome }) => {
      const steps = [...document.querySelectorAll('[data-testid="run-drawer"] [data-testid="run-step"]')];
      const isThere = (step) =>
        step.querySelector('[data-testid="step-outcome"]')?.getAttribute("data-state") === outcome && step.querySelector("ol li");
      return steps.length === count && steps.every(isThere);
    },
    { count: Number(stepCount), outcome },
    { timeout: LIMIT },
  );
  const steps = await page.locator('[data-testid="run-drawer"] [data-testid="run-step"]').all();
  // Each plan names the order that it is of: the one thing in which they must differ.
  const told = (text) => text.replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "");
  return Promise.all(steps.map(async (step) => (await step.locator("ol li").allInnerTexts()).map(told)));
};

await byTestId("dry-run").click();
const planned = await stepsOf(dryRow, "shadowed");
assert.ok(existsSync(victim), "a dry run takes nothing away");
// What has ended and is not waited for has no program any more.
assert.ok(existsSync(`/proc/${victimPid}/exe`), "a dry run ends nobody");
assert.equal(await byTestId("run-drawer").getByTestId("run-comparison").count(), 0);
await page.keyboard.press("Escape");
await byTestId("run-drawer").waitFor({ state: "detached", timeout: 15_000 });

await byTestId("real-run").click();
const done = await stepsOf(realRow, "succeeded");
assert.deepEqual(done, planned, "the run did what its dry run said");
await byTestId("run-comparison").filter({ hasText: "precisely what its dry run said" }).waitFor({ timeout: LIMIT });
assert.ok(!existsSync(victim), "its program is in the vault");

await browser.close();
assert.deepEqual(complaints, [], "the browser complained");
console.log("a run of a playbook in the console did what its dry run had said");
