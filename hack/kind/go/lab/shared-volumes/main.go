// shared-volumes makes the volumes of the lab's default StorageClass: folders below one folder of the machine that every
// node of the cluster has mounted at the same place. So a volume is bound to no node, and it can grow: nothing but the
// numbers changes, as nothing limits a folder. It plays the parts of a CSI provisioner and resizer at once.
package main

import (
	"context"
	"log"
	"os"
	"path/filepath"
	"time"

	"collective.storage/hack/kind/lab/api"
)

const (
	provisioner  = "lab.collective.storage/shared"
	sharedFolder = "/shared-volumes"
	everyRound   = 500 * time.Millisecond
	oneRound     = 30 * time.Second
)

type metadata struct {
	Name        string            `json:"name,omitempty"`
	Namespace   string            `json:"namespace,omitempty"`
	UID         string            `json:"uid,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type reference struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind,omitempty"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name,omitempty"`
	UID        string `json:"uid,omitempty"`
}

type claim struct {
	Metadata metadata
	Spec     struct {
		StorageClassName string
		AccessModes      []string
		VolumeName       string
		Resources        struct{ Requests map[string]string }
	}
	Status struct {
		Phase    string
		Capacity map[string]string
	}
}

type volume struct {
	APIVersion string       `json:"apiVersion,omitempty"`
	Kind       string       `json:"kind,omitempty"`
	Metadata   metadata     `json:"metadata"`
	Spec       volumeSpec   `json:"spec"`
	Status     volumeStatus `json:"status,omitzero"`
}

type volumeSpec struct {
	StorageClassName              string            `json:"storageClassName"`
	AccessModes                   []string          `json:"accessModes"`
	Capacity                      map[string]string `json:"capacity"`
	PersistentVolumeReclaimPolicy string            `json:"persistentVolumeReclaimPolicy"`
	ClaimRef                      reference         `json:"claimRef"`
	HostPath                      map[string]string `json:"hostPath,omitempty"`
}

type volumeStatus struct {
	Phase string `json:"phase,omitempty"`
}

type storageClass struct {
	Metadata      metadata
	Provisioner   string
	ReclaimPolicy string
}

func main() {
	client, err := api.New()
	if err != nil {
		log.Fatal(err)
	}
	for ; ; time.Sleep(everyRound) {
		ctx, cancel := context.WithTimeout(context.Background(), oneRound)
		if err := round(ctx, client); err != nil {
			log.Print(err)
		}
		cancel()
	}
}

func round(ctx context.Context, client *api.Client) error {
	var classes struct{ Items []storageClass }
	var claims struct{ Items []claim }
	var volumes struct{ Items []volume }
	if err := client.Get(ctx, "/apis/storage.k8s.io/v1/storageclasses", &classes); err != nil {
		return err
	}
	if err := client.Get(ctx, "/api/v1/persistentvolumeclaims", &claims); err != nil {
		return err
	}
	if err := client.Get(ctx, "/api/v1/persistentvolumes", &volumes); err != nil {
		return err
	}
	reclaim := map[string]string{}
	for _, class := range classes.Items {
		if class.Provisioner == provisioner {
			reclaim[class.Metadata.Name] = class.ReclaimPolicy
		}
	}
	held := map[string]volume{}
	for _, one := range volumes.Items {
		if one.Metadata.Annotations["pv.kubernetes.io/provisioned-by"] != provisioner {
			continue
		}
		held[one.Metadata.Name] = one
		if one.Status.Phase == "Released" && one.Spec.PersistentVolumeReclaimPolicy == "Delete" {
			if err := remove(ctx, client, one); err != nil {
				return err
			}
		}
	}
	for _, one := range claims.Items {
		if policy, ours := reclaim[one.Spec.StorageClassName]; ours {
			if err := serve(ctx, client, one, policy, held); err != nil {
				return err
			}
		}
	}
	return nil
}

// serve makes the volume of a new claim, and lets a bound one grow with what its claim asks for.
func serve(ctx context.Context, client *api.Client, wanted claim, policy string, held map[string]volume) error {
	asked := map[string]string{"storage": wanted.Spec.Resources.Requests["storage"]}
	if wanted.Spec.VolumeName == "" {
		return provide(ctx, client, wanted, policy, asked)
	}
	bound, ours := held[wanted.Spec.VolumeName]
	if !ours || wanted.Status.Phase != "Bound" {
		return nil
	}
	grown := map[string]any{"capacity": asked}
	if bound.Spec.Capacity["storage"] != asked["storage"] {
		if err := client.Merge(ctx, "/api/v1/persistentvolumes/"+bound.Metadata.Name, map[string]any{"spec": grown}); err != nil {
			return err
		}
	}
	if wanted.Status.Capacity["storage"] == asked["storage"] {
		return nil
	}
	log.Printf("%s of %s/%s grows to %s", bound.Metadata.Name, wanted.Metadata.Namespace, wanted.Metadata.Name, asked["storage"])
	path := "/api/v1/namespaces/" + wanted.Metadata.Namespace + "/persistentvolumeclaims/" + wanted.Metadata.Name
	return client.Merge(ctx, path+"/status", map[string]any{"status": grown})
}

func provide(ctx context.Context, client *api.Client, wanted claim, policy string, asked map[string]string) error {
	name := "pvc-" + wanted.Metadata.UID
	folder := filepath.Join(sharedFolder, name)
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	// The process mask does not let the pod's user write.
	if err := os.Chmod(folder, 0o777); err != nil {
		return err
	}
	log.Printf("%s for %s/%s", name, wanted.Metadata.Namespace, wanted.Metadata.Name)
	return client.Create(ctx, "/api/v1/persistentvolumes", volume{
		APIVersion: "v1",
		Kind:       "PersistentVolume",
		Metadata:   metadata{Name: name, Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": provisioner}},
		Spec: volumeSpec{
			StorageClassName:              wanted.Spec.StorageClassName,
			AccessModes:                   wanted.Spec.AccessModes,
			Capacity:                      asked,
			PersistentVolumeReclaimPolicy: policy,
			ClaimRef: reference{
				APIVersion: "v1",
				Kind:       "PersistentVolumeClaim",
				Namespace:  wanted.Metadata.Namespace,
				Name:       wanted.Metadata.Name,
				UID:        wanted.Metadata.UID,
			},
			HostPath: map[string]string{"path": folder, "type": "Directory"},
		},
	})
}

func remove(ctx context.Context, client *api.Client, released volume) error {
	log.Printf("%s is released and goes", released.Metadata.Name)
	if err := os.RemoveAll(filepath.Join(sharedFolder, released.Metadata.Name)); err != nil {
		return err
	}
	return client.Delete(ctx, "/api/v1/persistentvolumes/"+released.Metadata.Name)
}
