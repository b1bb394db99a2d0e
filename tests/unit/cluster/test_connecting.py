"""Kubeconfigs that are broken: each is one message that names the file."""

import pytest

from zeroskew.cluster.access import connect
from zeroskew.errors import ConfigError

WHOLE = """
apiVersion: v1
kind: Config
current-context: a
clusters: [{name: a, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: a, user: {token: x}}]
contexts: [{name: a, context: {cluster: a, user: a, namespace: team}}]
"""

BROKEN = {
    "no YAML": b"{{{",
    "bytes": bytes(range(256)),
    "nothing": b"",
    "a list": b"[1, 2]",
    "a text": b"kubeconfig",
    "no contexts": b"apiVersion: v1\nkind: Config\n",
    "numbers": b"contexts: 5\nclusters: 6\ncurrent-context: 7\n",
    "another tag": b"!!python/object/apply:os.system ['true']\n",
    "no cluster": WHOLE.replace("cluster: a,", "cluster: b,").encode(),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_kubeconfig_is_one_message_with_its_name(tmp_path, content):
    path = tmp_path / "config"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        connect(kubeconfig=path)
    assert str(path) in str(refused.value)


def test_a_whole_one_names_context_and_namespace(tmp_path):
    path = tmp_path / "config"
    path.write_text(WHOLE)
    assert connect(kubeconfig=path).namespace == "team"
    with pytest.raises(ConfigError, match="'b'") as refused:
        connect("b", path)
    assert "it has a" in str(refused.value)


def test_a_folder_in_place_of_a_file_is_said(tmp_path):
    with pytest.raises(ConfigError, match=str(tmp_path)):
        connect(kubeconfig=tmp_path)
