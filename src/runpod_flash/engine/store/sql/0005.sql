-- Apps, their environments, and what was deployed to them.

CREATE TABLE apps (name TEXT PRIMARY KEY, created_ms INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE app_envs (
    app TEXT NOT NULL REFERENCES apps(name),
    name TEXT NOT NULL,
    active INTEGER,                     -- the release that is called; NULL: none
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (app, name)
) WITHOUT ROWID;

CREATE TABLE releases (                 -- the last of each environment are kept, to go back to
    app TEXT NOT NULL,
    env TEXT NOT NULL,
    n INTEGER NOT NULL,
    spec TEXT NOT NULL,                 -- Deploy, as it came
    functions TEXT NOT NULL,            -- which rows are its functions: [[endpoint, [function, …]], …]
    created_ms INTEGER NOT NULL,
    activated_ms INTEGER NOT NULL,      -- for the last time
    PRIMARY KEY (app, env, n)
) WITHOUT ROWID;
