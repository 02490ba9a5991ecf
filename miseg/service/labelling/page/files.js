// Dialogs: export, load, help, token.

const $ = (id) => document.getElementById(id);

export function openDialog(id, then = null) {
  const dialog = $(id);
  if (dialog.open) return;
  if (then) dialog.addEventListener("close", then, { once: true });
  dialog.showModal();
}

export function bindDialogs(page, { ask, trouble, saved, compare, sent }) {
  const crs = page.view.image.crs;
  $("where").textContent = crs
    ? `GeoJSON is in longitude and latitude, GeoTIFF in ${crs}. A copy stays in ${page.view.folder}.`
    : `This image has no georeference: GeoJSON is in columns and rows of its pixels. A copy stays in ${page.view.folder}.`;

  $("export").addEventListener("click", () => openDialog("export-dialog"));
  $("export-dialog").addEventListener("close", async () => {
    if ($("export-dialog").returnValue !== "export") return;
    const kind = $("export-dialog").querySelector("input[name=kind]:checked").value;
    if (!sent()) return trouble("Some changes are not saved yet: export when they are.");
    try {
      const answer = await ask("export", { kind, scene: page.scene, compare: compare() }, {});
      const name = answer.headers.get("Content-Disposition").match(/filename="(.*)"/)[1];
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await answer.blob());
      link.download = name;
      link.click();
      URL.revokeObjectURL(link.href);
      $("told").textContent = `exported ${name}`;
    } catch (error) {
      trouble(`Not exported: ${error.message}.`);
    }
  });

  $("load").addEventListener("click", () => {
    $("load-told").textContent = "";
    openDialog("load-dialog");
  });
  $("load-go").addEventListener("click", async () => {
    const file = $("file").files[0];
    const told = $("load-told");
    told.className = "";
    if (!file) return void (told.textContent = "Choose a file first.");
    told.textContent = `Loading ${file.name} …`;
    try {
      const found = await (await ask("load", { name: file.name, scene: page.scene }, file)).json();
      const problems = found.problems.map((one) => `left out: ${one.place}: ${one.reason}`);
      const doubled = found.found - found.added;
      told.textContent = [`${found.added} drawings added${doubled ? `, ${doubled} were there already` : ""}.`, ...problems].join("\n");
      saved(found.state);
    } catch (error) {
      told.className = "bad";
      told.textContent = `Not loaded: ${error.message}`;
    }
  });
}
