// The body of a new run from the texts of its form, and the texts from an older run.

/** Return the body for POST /api/v1/experiments/{experiment}/runs. Throws an Error with a sentence for the user. */
export function bodyOf(values, options, artifacts, older) {
  const config = { model: {}, data: { train_data: values.train_data }, hyper_parameters: {}, training_options: {} };
  const run = { name: values.name, config };
  const artifact = /^artifact:(.*)$/.exec(values.model)?.[1];
  const manifest = artifacts.find((each) => each.artifact_id === artifact);
  if (artifact && !manifest) throw new Error("The artifact to go on from is gone. Choose another model.");
  config.model = artifact ? { name: manifest.backbone, artifact } : { name: values.model };
  if (values.eval_data) config.data.eval_data = values.eval_data;
  if (values.recipe && values.recipe !== "none") config.recipe = values.recipe;
  else if (older && older.config.callbacks?.length) config.callbacks = older.config.callbacks;
  for (const option of options) {
    if (values[option.name] === undefined || values[option.name] === "") continue;
    const value = read(option, values[option.name]);
    if (option.group === "run") run[option.field] = value;
    else if (option.group === "") config[option.field] = value;
    else config[option.group][option.field] = value;
  }
  for (const part of ["hyper_parameters", "training_options"])
    if (!Object.keys(config[part]).length) delete config[part];
  return run;
}

/** Return the value of an option from its text: text as it stands, all else as JSON. */
function read({ name, type }, text) {
  if (/^str\b/.test(type)) return text;
  if (type === "bool | str" && !["true", "false"].includes(text)) return text;
  try {
    return JSON.parse(text);
  } catch {
    const wanted = /int|float/.test(type) && !/\[/.test(type) ? "a number, such as 5 or 1e-4" : 'JSON, such as {"name": 1} or ["text"]';
    throw new Error(`${name} must be ${wanted}. You have written ${text.slice(0, 60)}.`);
  }
}

/** Return the texts of the form for an older run: those of its options that differ from their defaults. */
export function valuesOf({ config }, options) {
  const values = {
    train_data: config.train_data,
    eval_data: config.eval_data,
    recipe: config.recipe || "none",
    model: config.model_artifact ? `artifact:${config.model_artifact}` : config.model,
  };
  for (const { name, group, default: usual, type } of options) {
    const value = group === "training_options" ? config.training_options?.[name] : config[name];
    if (name === "resume_from" || value === undefined || value === null) continue;
    if (JSON.stringify(value) === JSON.stringify(usual)) continue;
    values[name] = typeof value === "string" && type !== "bool" ? value : JSON.stringify(value);
  }
  return values;
}
