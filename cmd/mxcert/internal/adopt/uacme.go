package adopt

import (
	"os"
	"path/filepath"
)

// fromUacme reads the tree of uacme: NAME/cert.pem (with its chain), private/NAME/key.pem, and private/key.pem of the account. uacme keeps
// neither the CA nor the URL of the account.
func fromUacme(root string) ([]Foreign, error) {
	files, err := match(root, "*/cert.pem")
	if err != nil {
		return nil, err
	}
	account := Account{}
	key, accountErr := os.ReadFile(filepath.Join(root, "private", "key.pem"))
	if accountErr == nil {
		account.Key = key
	}
	var found []Foreign
	for _, file := range files {
		f := Foreign{Source: filepath.Dir(file), Name: filepath.Base(filepath.Dir(file)), Account: account}
		if f.Chain, f.Err = read(file); f.Err == nil {
			f.Key, f.Err = read(filepath.Join(root, "private", f.Name, "key.pem"))
		}
		if accountErr != nil {
			f.Notes = append(f.Notes, withoutAccount(accountErr))
		} else {
			f.Notes = append(f.Notes, "uacme does not keep the URL of its account: with the next order, the CA finds it by its key")
		}
		found = append(found, f)
	}
	return found, nil
}
