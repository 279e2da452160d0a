"""The HTTP interface of the loopback Hub, as far as huggingface_hub and datasets need it.

A test names a request by the name of its view function. So no two views share a name.
"""

import base64
import hashlib
import json
import re

from flask import Flask, Response, jsonify, request

from hub_repos import Repos, folder_entry, folders_of, git_oid, refuse, user

DATE = "2026-01-01T00:00:00.000Z"
LICENCES = ("apache-2.0", "mit", "cc-by-4.0", "other")


def add_routes(app: Flask, hub: Repos) -> None:
    """All routes; answers hold addresses below `hub.url`."""
    for add in (_add_owning, _add_listing, _add_refs, _add_uploads, _add_commit, _add_download):
        add(app, hub)


def _add_owning(app: Flask, hub: Repos) -> None:
    """Who asks, and the life of a repository."""

    @app.get("/api/whoami-v2")
    def whoami() -> dict:
        name = user() or refuse(401, message="Invalid username or password.")
        return {"name": name, "type": "user", "orgs": [], "auth": {"accessToken": {"role": "write"}}}

    @app.post("/api/repos/create")
    def create() -> Response:
        who, wanted = user() or refuse(401, message="Invalid username or password."), request.json
        kind = f"{wanted.get('type') or 'model'}s"
        repo_id = f"{wanted.get('organization') or who}/{wanted['name']}"
        if repo_id.partition("/")[0] != who:
            refuse(403, message=f"You don't have the rights to create a {kind[:-1]} under this namespace")
        answer = jsonify(url=f"{hub.url}/{'' if kind == 'models' else kind + '/'}{repo_id}")
        if (kind, repo_id) in hub.repos:
            answer.status = 409
        else:
            private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
            hub.add(repo_id, {".gitattributes": b"*.safetensors filter=lfs\n"}, kind, private)
        return answer

    @app.delete("/api/repos/delete")
    def delete() -> dict:
        kind = f"{request.json.get('type') or 'model'}s"
        repo_id = f"{request.json.get('organization') or user()}/{request.json['name']}"
        hub.find(kind, repo_id, write=True)
        del hub.repos[kind, repo_id]
        return {}

    @app.post("/api/validate-yaml")
    def validate_yaml() -> tuple[dict, int]:
        found = re.search(r"^license: (.*)$", request.json["content"], flags=re.MULTILINE)
        known = not found or found[1] in LICENCES
        errors = [] if known else [{"message": f'"license" must be one of {", ".join(LICENCES)}'}]
        return {"errors": errors, "warnings": []}, 400 if errors else 200


def _add_listing(app: Flask, hub: Repos) -> None:
    """What a repository holds."""

    @app.get("/api/<kind>/<org>/<name>")
    @app.get("/api/<kind>/<org>/<name>/revision/<path:revision>")
    def info(kind: str, org: str, name: str, revision: str = "main") -> dict:
        repo = hub.find(kind, f"{org}/{name}")
        siblings = []
        for path, content in repo.files_at(revision).items():
            found = hub.file_entry(path, content)
            lfs = {"lfs": found["lfs"] | {"sha256": found["lfs"]["oid"]}} if "lfs" in found else {}
            siblings.append({"rfilename": path, "size": found["size"], "blobId": found["oid"]} | lfs)
        identity = {"id": f"{org}/{name}", "sha": repo.resolve(revision), "private": repo.private}
        facts = {"tags": [], "downloads": 0, "likes": 0, "lastModified": DATE, "createdAt": DATE}
        return identity | facts | {"siblings": siblings}

    @app.get("/api/<kind>/<org>/<name>/tree/<path:where>")
    def tree(kind: str, org: str, name: str, where: str) -> Response:
        repo = hub.find(kind, f"{org}/{name}")
        revision, folder = repo.split(where)
        prefix = f"{folder}/" if folder else ""
        inside = {path: c for path, c in repo.files_at(revision).items() if path.startswith(prefix)}
        if folder and not inside:
            refuse(404, "EntryNotFound", f"{folder} does not exist")
        recursive = request.args.get("recursive", "").lower() in ("1", "true")
        found = [hub.file_entry(path, content) for path, content in inside.items()]
        found += [folder_entry(path) for path in folders_of(list(inside)) if path.startswith(prefix)]
        listed = [item for item in found if recursive or "/" not in item["path"].removeprefix(prefix)]
        return jsonify(sorted(listed, key=lambda item: item["path"]))

    @app.post("/api/<kind>/<org>/<name>/paths-info/<path:revision>")
    def paths_info(kind: str, org: str, name: str, revision: str) -> Response:
        files = hub.find(kind, f"{org}/{name}").files_at(revision)
        paths = request.form.getlist("paths") or (request.get_json(silent=True) or {}).get("paths", [])
        found = [hub.file_entry(path, files[path]) for path in paths if path in files]
        folders = folders_of(list(files))
        return jsonify(found + [folder_entry(path) for path in paths if path.rstrip("/") in folders])


def _add_refs(app: Flask, hub: Repos) -> None:
    """Branches, tags and the history."""

    @app.get("/api/<kind>/<org>/<name>/refs")
    def refs(kind: str, org: str, name: str) -> dict:
        repo = hub.find(kind, f"{org}/{name}")

        def rows(found: dict[str, str], where: str) -> list[dict]:
            return [{"name": k, "ref": f"refs/{where}/{k}", "targetCommit": oid} for k, oid in found.items()]

        branches = {k: v for k, v in repo.refs.items() if not k.startswith("refs/")}
        return {"branches": rows(branches, "heads"), "converts": [], "tags": rows(repo.tags, "tags")}

    @app.get("/api/<kind>/<org>/<name>/commits/<path:revision>")
    def commits(kind: str, org: str, name: str, revision: str) -> Response:
        repo = hub.find(kind, f"{org}/{name}")
        repo.resolve(revision)
        return jsonify(
            [{"id": o, "title": t, "message": "", "authors": [], "date": DATE} for o, t in repo.history]
        )

    @app.post("/api/<kind>/<org>/<name>/tag/<path:revision>")
    def tag(kind: str, org: str, name: str, revision: str) -> dict:
        repo = hub.find(kind, f"{org}/{name}", write=True)
        if request.json["tag"] in repo.tags:
            refuse(409, message="Tag reference exists already")
        repo.tags[request.json["tag"]] = repo.resolve(revision)
        return {}

    @app.post("/api/<kind>/<org>/<name>/branch/<path:branch>")
    def branch(kind: str, org: str, name: str, branch: str) -> dict:
        repo = hub.find(kind, f"{org}/{name}", write=True)
        if branch in repo.refs:
            refuse(409, message="Reference already exists")
        repo.refs[branch] = repo.resolve((request.get_json(silent=True) or {}).get("startingPoint", "main"))
        return {}


def _add_uploads(app: Flask, hub: Repos) -> None:
    """What precedes a commit: which files go through LFS, and their content."""

    @app.post("/api/<kind>/<org>/<name>/preupload/<path:revision>")
    def preupload(kind: str, org: str, name: str, revision: str) -> dict:
        repo = hub.find(kind, f"{org}/{name}", write=True)
        files = repo.files_at(revision)
        answer = []
        for file in request.json["files"]:
            lfs, old = hub.is_lfs(file["path"]), files.get(file["path"])
            oid = None if old is None else hashlib.sha256(old).hexdigest() if lfs else git_oid(old)
            mode = {"uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, "oid": oid}
            answer.append({"path": file["path"]} | mode)
        return {"files": answer, "commitOid": repo.resolve(revision)}

    @app.post("/<path:repo>.git/info/lfs/objects/batch")
    def lfs_batch(repo: str) -> Response:
        objects = []
        for wanted in request.json["objects"]:
            upload, verify = f"{hub.url}/lfs/{wanted['oid']}", f"{hub.url}/lfs-verify"
            actions = {"actions": {"upload": {"href": upload}, "verify": {"href": verify}}}
            objects.append(wanted if wanted["oid"] in hub.blobs else wanted | actions)
        answer = jsonify(transfer="basic", objects=objects)
        answer.mimetype = "application/vnd.git-lfs+json"
        return answer

    @app.put("/lfs/<oid>")
    def lfs_upload(oid: str) -> str:
        content = request.get_data()
        if hashlib.sha256(content).hexdigest() != oid:
            refuse(400, message="content does not match its oid")
        hub.blobs[oid] = content
        return ""

    @app.post("/lfs-verify")
    def lfs_verify() -> dict:
        blob = hub.blobs.get(request.json["oid"])
        if blob is None or len(blob) != request.json["size"]:
            refuse(404, message="object is not here")
        return {}


def _add_commit(app: Flask, hub: Repos) -> None:
    @app.post("/api/<kind>/<org>/<name>/commit/<path:revision>")
    def commit(kind: str, org: str, name: str, revision: str) -> dict:
        repo_id = f"{org}/{name}"
        repo = hub.find(kind, repo_id, write=True)
        if request.fault is not None and request.fault.kind == "overtaken":
            repo.commit(repo.files_at(revision) | {"NOTES.md": b"someone else's"}, "overtaking")
        header, *operations = map(json.loads, request.get_data().splitlines())
        head = repo.resolve(revision)
        if header["value"].get("parentCommit", head) != head:
            refuse(412, message="A commit has happened since. Please refresh and try again.")
        files = dict(repo.commits[head])
        for operation in operations:
            _apply(hub, files, operation["key"], operation["value"])
        ref, answer = revision, {}
        if request.args.get("create_pr"):
            number = 1 + sum(name.startswith("refs/pr/") for name in repo.refs)
            ref, answer = f"refs/pr/{number}", {"pullRequestUrl": f"{hub.url}/{repo_id}/discussions/{number}"}
        oid = repo.commit(files, header["value"]["summary"], ref)
        return answer | {"success": True, "commitOid": oid, "commitUrl": f"{hub.url}/{repo_id}/commit/{oid}"}


def _apply(hub: Repos, files: dict[str, bytes], key: str, value: dict) -> None:
    """Do one operation of a commit to `files`."""
    match key:
        case "file":
            files[value["path"]] = base64.b64decode(value["content"])
        case "lfsFile":
            if value["oid"] not in hub.blobs:
                refuse(400, message="the LFS object was never uploaded")
            files[value["path"]] = hub.blobs[value["oid"]]
        case "deletedFile":
            if files.pop(value["path"], None) is None:
                refuse(404, "EntryNotFound", "A file with this name doesn't exist")
        case "deletedFolder":
            inside = value["path"].rstrip("/") + "/"
            for path in [path for path in files if path.startswith(inside)]:
                del files[path]


def _add_download(app: Flask, hub: Repos) -> None:
    @app.get("/<org>/<name>/resolve/<path:where>", defaults={"kind": "models"})
    @app.get("/<kind>/<org>/<name>/resolve/<path:where>")
    def download(kind: str, org: str, name: str, where: str) -> Response:
        repo = hub.find(kind, f"{org}/{name}")
        revision, path = repo.split(where)
        oid = repo.resolve(revision)
        content = repo.commits[oid].get(path)
        if content is None:
            refuse(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": oid})
        answer = Response(content, mimetype="application/octet-stream")
        answer.headers["X-Repo-Commit"] = oid
        answer.set_etag(hashlib.sha256(content).hexdigest() if hub.is_lfs(path) else git_oid(content))
        return answer.make_conditional(request, accept_ranges=True, complete_length=len(content))
